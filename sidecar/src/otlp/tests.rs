#![allow(clippy::unwrap_used, clippy::panic)]

use opentelemetry::Key;

use super::*;

const SECRET: &str = "s3cr3t";

fn lookup<'a>(set: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<'a> {
    |wanted| {
        let found = set.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| (*value).to_owned())
    }
}

fn read(set: &[(&str, &str)]) -> Option<OtlpSettings> {
    OtlpSettings::from_env(lookup(set)).unwrap_or_else(|error| panic!("{set:?}: {error}"))
}

fn settings(set: &[(&str, &str)]) -> OtlpSettings {
    read(set).unwrap_or_else(|| panic!("{set:?} should switch export on"))
}

fn error(set: &[(&str, &str)]) -> String {
    match OtlpSettings::from_env(lookup(set)) {
        Err(error) => error.to_string(),
        Ok(read) => panic!("{set:?} should be wrong, gave {read:?}"),
    }
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
/// Somewhere to export to, where that is not the point.
const ON: (&str, &str) = (ENDPOINT, "http://collector:4318");

#[test]
fn off_unless_somebody_names_where_spans_go() {
    let off: [&[(&str, &str)]; 7] = [
        &[],
        &[(ENDPOINT, ""), (EXPORTER, " ")],
        &[ON, (EXPORTER, "none")],
        &[ON, (EXPORTER, "None")],
        &[ON, ("OTEL_SDK_DISABLED", "true")],
        &[ON, ("OTEL_SDK_DISABLED", "TRUE")],
        &[
            (PROTOCOL, "nonsense"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "nonsense"),
        ],
    ];
    for set in off {
        assert!(read(set).is_none(), "{set:?}");
    }
    let on: [&[(&str, &str)]; 5] = [
        &[ON],
        &[(TRACES_ENDPOINT, "http://collector")],
        &[(EXPORTER, "otlp")],
        &[ON, ("OTEL_SDK_DISABLED", "false")],
        &[ON, ("OTEL_SDK_DISABLED", "1")],
    ];
    for set in on {
        assert!(read(set).is_some(), "{set:?}");
    }
    assert!(
        error(&[(EXPORTER, "zipkin")]).contains("\"zipkin\" is not supported; give otlp or none")
    );
}

#[test]
fn endpoint_and_protocol() {
    let table: [(&[(&str, &str)], &str); 16] = [
        (
            &[(EXPORTER, "otlp")],
            "http/protobuf to http://localhost:4318/v1/traces",
        ),
        (
            &[(EXPORTER, "otlp"), (PROTOCOL, "grpc")],
            "grpc to http://localhost:4317",
        ),
        (
            &[(ENDPOINT, "http://c:4318")],
            "http/protobuf to http://c:4318/v1/traces",
        ),
        (
            &[(ENDPOINT, "http://c:4318/")],
            "http/protobuf to http://c:4318/v1/traces",
        ),
        (
            &[(ENDPOINT, "https://c/a/b/")],
            "http/protobuf to https://c/a/b/v1/traces",
        ),
        (
            &[(ENDPOINT, "http://[::1]:4318")],
            "http/protobuf to http://[::1]:4318/v1/traces",
        ),
        (&[(ENDPOINT, "http://c:4317")], "grpc to http://c:4317"),
        (
            &[(ENDPOINT, "http://c:4317/ignored")],
            "grpc to http://c:4317",
        ),
        (
            &[(ENDPOINT, "http://c:4317"), (PROTOCOL, "http/protobuf")],
            "http/protobuf to http://c:4317/v1/traces",
        ),
        (
            &[(ENDPOINT, "https://c:443"), (PROTOCOL, "GRPC")],
            "grpc to https://c:443",
        ),
        (
            &[ON, (TRACES_ENDPOINT, "http://t:1/x")],
            "http/protobuf to http://t:1/x",
        ),
        (
            &[ON, (TRACES_ENDPOINT, "http://t:1")],
            "http/protobuf to http://t:1/",
        ),
        (
            &[
                ON,
                ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
                (PROTOCOL, "http/protobuf"),
            ],
            "grpc to http://collector:4318",
        ),
        (
            &[
                (ENDPOINT, "c:4317"),
                ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
            ],
            "grpc to http://c:4317",
        ),
        (
            &[
                (ENDPOINT, "c:4317"),
                ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "false"),
            ],
            "grpc to https://c:4317",
        ),
        (
            &[
                (ENDPOINT, "http://c:4317"),
                ("OTEL_EXPORTER_OTLP_INSECURE", "false"),
            ],
            "grpc to http://c:4317",
        ),
    ];
    for (set, expected) in table {
        assert_eq!(settings(set).to_string(), expected, "{set:?}");
    }
}

#[test]
fn a_query_is_kept_but_not_shown() {
    let settings = settings(&[(ENDPOINT, "http://c:4318/a?key=s3cr3t")]);
    assert_eq!(
        settings.endpoint.to_string(),
        "http://c:4318/a/v1/traces?key=s3cr3t"
    );
    assert!(!format!("{settings} {settings:?}").contains(SECRET));
}

#[test]
fn a_wrong_endpoint_is_told_without_its_value() {
    for (endpoint, reason) in [
        ("c:4317", "no scheme"),
        ("s3cr3t", "no scheme"),
        ("ftp://s3cr3t", "neither http nor https"),
        ("http://", "not a URL"),
        ("http://s3cr3t host", "not a URL"),
        ("http://user:s3cr3t@c:4318", "OTEL_EXPORTER_OTLP_HEADERS"),
    ] {
        let error = error(&[(ENDPOINT, endpoint)]);
        assert!(
            error.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: "),
            "{error}"
        );
        assert!(
            error.contains(reason) && error.contains("http://host:port"),
            "{endpoint}: {error}"
        );
        assert!(!error.contains(SECRET), "{error}");
    }
    let over_http = [
        (ENDPOINT, "c:4318"),
        (PROTOCOL, "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
    ];
    assert!(
        error(&over_http).contains("no scheme"),
        "…_INSECURE is for gRPC"
    );
}

#[test]
fn words_that_are_not_known_are_told() {
    for (name, value, known) in [
        (PROTOCOL, "http/json", "grpc or http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "gzip or none"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "milliseconds"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "positive"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1", "milliseconds"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "0", "positive"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many", "positive whole number"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "positive whole number"),
        (
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
            "4096",
            "OTEL_BSP_MAX_QUEUE_SIZE, 2048",
        ),
        (
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
            "/key.pem",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        ),
        (
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            "/c.pem",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        ),
    ] {
        let error = error(&[ON, (name, value)]);
        assert!(
            error.starts_with(&format!("{name}: ")) && error.contains(known),
            "{error}"
        );
    }
}

#[test]
fn times_and_sizes() {
    let plain = settings(&[ON]);
    assert_eq!(plain.timeout(), Duration::from_secs(10));
    assert!(!plain.gzip);
    let batch = plain.batch();
    assert_eq!(
        (batch.max_queue_size, batch.max_export_batch_size),
        (2048, 512)
    );
    assert_eq!(
        (
            batch.schedule_delay.as_millis(),
            batch.export_timeout.as_millis()
        ),
        (5000, 30_000)
    );

    let set = settings(&[
        ON,
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", " 250 "),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "200000"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10000"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "1"),
    ]);
    assert_eq!(set.timeout(), Duration::from_millis(250));
    assert!(set.gzip);
    let expected = Batch {
        max_queue_size: 200_000,
        max_export_batch_size: 10_000,
        schedule_delay: Duration::from_millis(100),
        export_timeout: Duration::from_millis(1),
    };
    assert_eq!(set.batch(), expected);
    assert_eq!(Batch::from_env(lookup(&[])).unwrap(), Batch::default());
    let small = Batch::from_env(lookup(&[("OTEL_BSP_MAX_QUEUE_SIZE", "100")])).unwrap();
    assert_eq!(
        small.max_export_batch_size, 100,
        "the default batch shrinks with the queue"
    );
    let off = settings(&[
        ON,
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
    ]);
    assert!(!off.gzip);
}

#[test]
fn headers_are_decoded_and_stay_secret() {
    let set = settings(&[
        ON,
        (
            HEADERS,
            "Authorization=Bearer%20s3cr3t, x-team = tars%2Ca=b,,",
        ),
    ]);
    assert_eq!(set.headers.get("authorization").unwrap(), "Bearer s3cr3t");
    assert_eq!(set.headers.get("x-team").unwrap(), "tars,a=b");
    let shown = format!("{set:?} {set} {:?}", set.headers);
    assert!(
        shown.contains("authorization") && !shown.contains(SECRET),
        "{shown}"
    );

    let traces = settings(&[
        ON,
        (HEADERS, "a=1"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "b=2"),
    ]);
    assert_eq!(
        traces
            .headers
            .keys()
            .map(HeaderName::as_str)
            .collect::<Vec<_>>(),
        ["b"]
    );
}

#[test]
fn wrong_headers_are_told_without_their_values() {
    for (headers, reason) in [
        ("s3cr3t", "entry 1 has no ="),
        ("a=1,s3cr3t", "entry 2 has no ="),
        ("=s3cr3t", "entry 1 has no name"),
        ("a=s3cr3t%", "entry 1 is not percent-encoded"),
        ("a=s3cr3t%2", "not percent-encoded"),
        ("a=s3cr3t%+1", "not percent-encoded"),
        ("a=s3cr3t%ff", "not percent-encoded UTF-8"),
        ("a b=s3cr3t", "\"a b\" cannot be the name"),
        ("a-bin=s3cr3t", "\"a-bin\" cannot be the name"),
        ("a=s3cr3t%0Ab:c", "the value of \"a\""),
    ] {
        let error = error(&[ON, (HEADERS, headers)]);
        assert!(
            error.starts_with("OTEL_EXPORTER_OTLP_HEADERS: ") && error.contains(reason),
            "{error}"
        );
        assert!(!error.contains(SECRET), "{error}");
    }
}

#[test]
fn the_service_has_a_name_and_attributes() {
    let service = |set: &[(&str, &str)]| Service::from_env(lookup(set)).unwrap();
    assert_eq!(service(&[]).name(), None);
    let attributes = (
        "OTEL_RESOURCE_ATTRIBUTES",
        "service.name=shop,deployment.environment.name=a%2Cb,x=",
    );
    assert_eq!(service(&[attributes]).name(), Some("shop"));
    let both = service(&[attributes, ("OTEL_SERVICE_NAME", "payment")]);
    assert_eq!(both.name(), Some("payment"));

    let resource = both.resource("shipping");
    let of = |key: &'static str| {
        resource
            .get(&Key::from_static_str(key))
            .map(|value| value.to_string())
    };
    assert_eq!(of("service.name").as_deref(), Some("shipping"));
    assert_eq!(of("deployment.environment.name").as_deref(), Some("a,b"));
    assert_eq!(of("x").as_deref(), Some(""));
    assert_eq!(of("telemetry.sdk.language").as_deref(), Some("rust"));

    let wrong = Service::from_env(lookup(&[("OTEL_RESOURCE_ATTRIBUTES", "a=1,b")])).unwrap_err();
    assert!(
        wrong
            .to_string()
            .starts_with("OTEL_RESOURCE_ATTRIBUTES: entry 2 has no ="),
        "{wrong}"
    );
}
