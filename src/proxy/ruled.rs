//! What rules do to a request before its origin, or whoever answers in its place, is asked: it is blocked, held, or changed.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use h2::Reason;
use tokio::time::{Instant, sleep};

use super::context::Context;
use super::ends::{RequestIn, ResponseOut};
use super::error::{Error, Kind};
use super::forward::{self, Forwarded};
use super::judge::Plan;
use super::relay::Message;
use super::serve::Scope;
use super::shared::Shared;
use crate::exchange::Live;
use crate::flow::{Request, Side, Stage};
use crate::rules::{Block, Rules};

/// Lets rules look at a request, and sends it on if they do. On the heap, as the ways to origins.
#[expect(clippy::too_many_arguments, reason = "those of `forward`, and the rules")]
pub(super) fn ruled<'a, I: RequestIn, O: ResponseOut>(
    cx: &'a mut Context<'_>,
    rules: Arc<Rules>,
    scope: &'a Scope,
    live: &'a Live,
    message: &'a Message<'_>,
    plan: &'a Plan,
    from: &'a mut I,
    to: &'a mut O,
) -> BoxFuture<'a, Result<Forwarded, Error>> {
    Box::pin(async move {
        let verdict = live.with(|flow| rules.request(flow));
        for &rule in &verdict.rules {
            live.applied(rules.text(rule));
        }
        if let (Some(block), Some(&rule)) = (verdict.block, verdict.rules.first()) {
            return Err(blocked(block, rules.text(rule), Stage::RequestHead));
        }
        if !verdict.delay.is_zero() {
            hold(cx, live, verdict.delay, from, to).await?;
        }
        let Some(headers) = verdict.changed else {
            return forward::asked(cx, scope, live, message, plan, from, to).await;
        };
        live.with(|flow| {
            if let Some(request) = &mut flow.request {
                request.changed = Some(Box::new(headers.clone()));
            }
        });
        // As they came, they are not sent.
        drop(from.take_head());
        let request = Request { headers, ..message.request.clone() };
        let message = Message { request: &request, ..*message };
        forward::asked(cx, scope, live, &message, plan, from, to).await
    })
}

/// Why a tunnel that is left unread goes nowhere, if a rule blocks it. Its client was told already that it is there, so it
/// gets no status.
pub(super) fn blocks_tunnel(shared: &Shared, live: &Live) -> Option<Error> {
    let rules = shared.rules.as_ref()?;
    let (rule, _) = live.with(|flow| rules.block(flow))?;
    live.applied(rules.text(rule));
    Some(blocked(Block::Kill, rules.text(rule), Stage::Tunnel))
}

fn blocked(block: Block, rule: &str, stage: Stage) -> Error {
    let message = format!("by the rule: {rule}");
    match block {
        Block::Answer(status) => Error::new(Kind::Blocked(status), Side::Proxy, stage, message),
        Block::Kill => Error {
            code: Some(Reason::INTERNAL_ERROR.into()),
            ..Error::new(Kind::Cut, Side::Proxy, stage, message)
        },
    }
}

/// Waits for so long, or until the client is gone.
async fn hold<I: RequestIn, O: ResponseOut>(
    cx: &mut Context<'_>,
    live: &Live,
    delay: Duration,
    from: &mut I,
    to: &mut O,
) -> Result<(), Error> {
    let mut over = pin!(sleep(delay));
    let mut gone = pin!(from.gone_early());
    let work = poll_fn(|task| {
        if over.as_mut().poll(task).is_ready() {
            return Poll::Ready(Ok(()));
        }
        match to.poll_refused(task) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => gone.as_mut().poll(task).map(Err),
        }
    });
    let tick = |now: Instant| Ok::<_, Error>(Instant::from_std(live.tick(now.into_std())));
    cx.ticker.watch(Instant::from_std(live.first_tick()), tick, work).await?
}
