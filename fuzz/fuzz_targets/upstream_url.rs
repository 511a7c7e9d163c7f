//! Any text as a server's URL with user, password and database: never a panic; an error repeats nothing of it; what is accepted is said to
//! the server as two whole commands; and any user and password survive being encoded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;
use tars_proxy::config::{Login, read_login};
use tars_proxy::greeting::Greeting;

/// What is said, as the server reads it.
fn said(login: &Login) -> Vec<Vec<Vec<u8>>> {
    let greeting = Greeting::new(login);
    let mut rest = greeting.as_ref().map_or(&[][..], Greeting::bytes);
    let mut commands = Vec::new();
    while !rest.is_empty() {
        let Ok(Some((OwnedFrame::Array(args), length))) = decode(rest) else {
            panic!("{} is no command", rest.escape_ascii());
        };
        let arg = |arg| match arg {
            OwnedFrame::BulkString(arg) => arg,
            other => panic!("{other:?} is no argument"),
        };
        commands.push(args.into_iter().map(arg).collect());
        rest = &rest[length..];
    }
    commands
}

fn encoded(text: &[u8]) -> String {
    text.iter().map(|byte| format!("%{byte:02X}")).collect()
}

fuzz_target!(|text: &str| {
    match read_login(text) {
        Ok((_, login)) => {
            let auth = login.password.iter().map(|password| match &login.user[..] {
                b"" => vec![b"AUTH".to_vec(), password.clone()],
                user => vec![b"AUTH".to_vec(), user.to_vec(), password.clone()],
            });
            let database = login.database.to_string().into_bytes();
            let select = (login.database != 0).then(|| vec![b"SELECT".to_vec(), database]);
            assert_eq!(said(&login), auth.chain(select).collect::<Vec<_>>());
        }
        // Whatever the text: one of a few sentences.
        Err(error) => assert!(error.is_ascii() && error.len() < 120, "{error:?}"),
    }
    let (user, password) = text.split_at(text.floor_char_boundary(text.len() / 3));
    let url = format!(
        "redis://{}:{}@h/7",
        encoded(user.as_bytes()),
        encoded(password.as_bytes())
    );
    let (upstream, login) = read_login(&url).unwrap();
    assert_eq!(
        (upstream.to_string().as_str(), login.database),
        ("redis://h:6379", 7)
    );
    assert_eq!(
        (&login.user[..], login.password.unwrap_or_default()),
        (user.as_bytes(), password.into())
    );
});
