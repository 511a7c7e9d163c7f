//! What a drawing holds. What it looks like a person must say.

use super::curve::MOST_POINTS;
use super::*;

#[test]
fn a_curve_is_drawn_from_its_first_point_to_its_last() {
    let mut curve = Curve::default();
    (1..=50).for_each(|at| curve.push(at * 2_000, at as f64 * 10.0));
    let svg = curve.to_svg("a < b", "");
    assert!(svg.contains("a &lt; b") && svg.contains(">100k<") && svg.contains(">500.0<"));
    assert!(
        svg.contains(r#"<path class="line s0" d="M78.2 377.8"#),
        "{svg}"
    );
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn nothing_and_one_point_can_be_drawn_too() {
    let mut curve = Curve::default();
    assert!(curve.to_svg("", "").ends_with("</svg>\n"));
    curve.push(0, 5.0);
    let svg = curve.to_svg("", "");
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn several_lines_have_a_legend_and_nothing_is_off_the_drawing() {
    let series = |name: &str, scale: f64| Series {
        name: name.to_owned(),
        points: (0..=10)
            .map(|at| Point {
                steps: at * 1_000,
                middle: at as f64 * scale,
                range: (at as f64 * scale - 50.0, at as f64 * scale + 50.0),
            })
            .collect(),
    };
    let chart = Chart {
        series: vec![series("ours", 10.0), series("theirs", -10.0)],
        levels: vec![Level {
            name: "a rule".to_owned(),
            value: 400.0,
        }],
        ..Chart::default()
    };
    let svg = chart.to_svg();
    for name in [">ours<", ">theirs<", ">a rule<"] {
        assert!(svg.contains(name), "{name} {svg}");
    }
    // The first is in front; the highest is at the top, below the legend.
    assert!(svg.rfind("line s0") > svg.rfind("line s1"));
    assert!(svg.contains(&format!(
        r#"<path class="level l0" d="M{LEFT} {:.1}H"#,
        TOP + LEGEND
    )));
    let [low, high] = ["M772.0 ", "L772.0 "].map(|place| svg.contains(place));
    assert!(!low && high, "{svg}");
}

#[test]
fn it_stays_bounded_and_keeps_its_ends_near() {
    let mut curve = Curve::default();
    (0..100_000).for_each(|at| curve.push(at, 1.0));
    assert!(curve.len() <= MOST_POINTS);
    let (first, last) = curve.ends().expect("points");
    assert!(first.0 == 0 && last.0 > 99_000);
}

#[test]
fn what_is_kept_of_a_curve_goes_on_as_if_it_had_not_stopped() {
    let (mut whole, mut parts) = (Curve::default(), Curve::default());
    let value = |at: u64| (at as f64 * 0.37).sin();
    (0..10_000).for_each(|at| whole.push(at, value(at)));
    for stop in 0..20 {
        let steps = stop * 500..(stop + 1) * 500;
        steps.for_each(|at| parts.push(at, value(at)));
        parts = Curve::from_json(parts.to_json().as_bytes()).expect("its own");
    }
    assert_eq!(parts, whole);

    // A checkpoint that is older than the curve.
    parts.truncate(4_999);
    let (_, last) = parts.ends().expect("points");
    assert!(last.0 > 4_900 && last.0 <= 4_999, "{last:?}");
    (5_000..10_000).for_each(|at| parts.push(at, value(at)));
    assert_eq!(parts.ends().map(|ends| ends.1.0), Some(9_992));
    let foreign = [
        "",
        "{}",
        r#"{"stride":1,"seen":2,"points":[[2,1.0],[1,1.0]]}"#,
    ];
    for json in foreign {
        assert!(Curve::from_json(json.as_bytes()).is_err(), "{json}");
    }
}
