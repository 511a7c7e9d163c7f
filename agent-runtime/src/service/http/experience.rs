//! `POST /v1/agents/{name}/experience`: what is answered with 200 survives a kill.

use axum::response::Response;
use hyper::body::Incoming;
use serde_json::json;

use super::body::parse;
use super::problem::Problem;
use super::trace::Span;
use super::{Asked, Http, json_of};
use crate::service::agent::Agent;
use crate::service::experience::{Batch, Experience, MOST_FRAGMENTS, MOST_NAME};
use crate::service::object::Object;

/// A request, checked.
struct Checked {
    producer: String,
    epoch: u64,
    seq: u64,
    fragments: Vec<Experience>,
}

pub(super) async fn experience(
    http: &Http,
    name: &str,
    asked: &Asked<'_>,
    body: Incoming,
    span: Option<&mut Span>,
) -> Result<Response, Problem> {
    let agent = http.agent(name)?;
    let _turn = agent.turns().experience()?;
    let held = http.bodies.json(asked.headers, body).await?;
    let reader = agent.clone();
    let work = move |json: &[u8]| read(&reader, json);
    // Its place is held until it is answered: what was made of it waits meanwhile.
    let (checked, _held) = http.bodies.work(held, work).await?;
    let Checked {
        producer,
        epoch,
        seq,
        fragments,
    } = checked;
    let context = asked.remote.clone();
    let accepted = agent.accept(producer, epoch, seq, fragments, context).await;
    let version = agent.acting().current().number();
    if let Some(span) = span {
        span.version(version);
    }
    let accepted = accepted?;
    let answer = json!({
        "accepted": accepted.transitions,
        "duplicates": accepted.duplicates,
        "policy_version": version,
    });
    Ok(json_of(answer.to_string()))
}

fn read(agent: &Agent, json: &[u8]) -> Result<Checked, Problem> {
    let Batch {
        producer,
        epoch,
        seq,
        fragments,
    } = parse(json)?;
    let sized = |what: &str, found: usize, most: usize| {
        if (1..=most).contains(&found) {
            return Ok(());
        }
        let text = format!("{what}: expected 1 to {most}, found {found}");
        Err(Problem::invalid(text))
    };
    sized("producer: bytes", producer.len(), MOST_NAME)?;
    sized("fragments", fragments.len(), MOST_FRAGMENTS)?;
    let (spec, spaces) = (agent.spec(), agent.acting().spaces());
    let checked = fragments
        .into_iter()
        .enumerate()
        .map(|(at, Object(fragment))| {
            let at = format!("fragments[{at}]");
            fragment.check(&at, spec, spaces).map_err(Problem::invalid)
        });
    Ok(Checked {
        fragments: checked.collect::<Result<_, _>>()?,
        producer,
        epoch,
        seq,
    })
}
