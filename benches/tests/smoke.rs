//! Everything that is measured starts, is measured, and is reported.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use tars_benches::act;
use tars_benches::measured::Run;

#[test]
fn a_smoke_run_measures_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("smoke");
    let done = Command::new(env!("CARGO_BIN_EXE_tars-bench"))
        .args(["run", "smoke", "--only", "bare-relay,tars-100-percent"])
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let run: Run = serde_json::from_slice(&fs::read(out.with_extension("json")).unwrap()).unwrap();
    assert!(!run.cases.is_empty() && !run.memory.is_empty());
    // Directly nobody is between, and nothing is dropped at such a pace.
    for curve in &run.curves {
        assert_eq!(curve.points.len(), 2, "{}", curve.series.title());
        for point in curve.points.values().flatten().flatten() {
            assert!(point.cpu_micros > 0.0 && point.peak > 0, "{point:?}");
        }
    }
    assert_eq!((run.curves.len(), run.blocking.len()), (3, 3));
    for kind in ["md", "html"] {
        let report = fs::read_to_string(out.with_extension(kind)).unwrap();
        assert!(
            report.contains("XREADGROUP, replies of entries of 1,000 B"),
            "{report}"
        );
    }
}

#[test]
fn a_short_run_of_the_learners_service_measures_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("act");
    let done = Command::new(env!("CARGO_BIN_EXE_tars-bench"))
        .args([
            "act",
            "--rounds",
            "1",
            "--seconds",
            "1",
            "--no-instructions",
        ])
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let json = fs::read(out.with_extension("json")).unwrap();
    let run: act::Run = serde_json::from_slice(&json).unwrap();
    for case in act::Case::ALL {
        let samples: Vec<_> = run.cases.get(&case).unwrap().values().flatten().collect();
        assert!(
            samples.len() == 2 && samples.iter().all(|sample| sample.rate > 100.0),
            "{samples:?}"
        );
    }
    let report = fs::read_to_string(out.with_extension("md")).unwrap();
    assert!(report.contains("throughput, of the echo's"), "{report}");
}
