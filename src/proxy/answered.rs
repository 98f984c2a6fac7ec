//! One request that an [`Answers`] is asked about, rather than its origin. The relay between is the same.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::answers::{Answers, Asked, Asking};
use super::context::Context;
use super::ends::stored::{self, TakenRequest};
use super::ends::{RequestIn, ResponseOut};
use super::error::Error;
use super::forward::{self, Forwarded};
use super::judge::Plan;
use super::relay::{self, Ends, Message};
use super::serve::Scope;
use crate::exchange::Live;
use crate::flow::{Interim, Request, Version};
use crate::http1::BodyLength;

/// Has a request answered, or sends it on where it is to go on. On the heap, as the ways to origins.
#[expect(clippy::too_many_arguments, reason = "those of `forward`, and who is asked")]
pub(super) fn answered<'a, I: RequestIn, O: ResponseOut>(
    cx: &'a mut Context<'_>,
    answers: Arc<dyn Answers>,
    scope: &'a Scope,
    live: &'a Live,
    message: &'a Message<'_>,
    plan: &'a Plan,
    from: &'a mut I,
    to: &'a mut O,
) -> BoxFuture<'a, Result<Forwarded, Error>> {
    Box::pin(async move {
        let has_body = message.length != BodyLength::None;
        let route = &plan.route;
        let asked =
            Asked { request: message.request, target: &route.target, path: &route.origin_form, has_body };
        let question = match answers.ask(&asked).await {
            Asking::Forward => return forward::sent(cx, scope, live, message, plan, from, to).await,
            Asking::Question(question) => question,
        };
        if has_body && awaits_continue(message.request) {
            // There is no origin that could say it, and without it the body may never come (RFC 9110 §10.1.1).
            to.queue_interim(&Interim { at_us: live.now_us(), ..go_on() });
            to.flush().await?;
        }
        let (mut request_out, mut response_in) = stored::ends(question, message.length, live);
        let ends = Ends {
            request_in: &mut *from,
            request_out: &mut request_out,
            response_in: &mut response_in,
            response_out: &mut *to,
        };
        let relayed = relay::exchange(cx.ticker, &cx.shared.limits, live, ends, message).await;
        let (body, talk) = (response_in.take_forward(), response_in.take_talk());
        match (relayed, body, talk) {
            (Ok(relayed), _, Some(talk)) if relayed.switched => Ok(Forwarded::SwitchedHere(talk)),
            (Ok(relayed), ..) => Ok(Forwarded::Answered(relayed)),
            (Err(_), Some(body), _) => {
                let mut taken = TakenRequest::new(from, body);
                forward::sent(cx, scope, live, message, plan, &mut taken, to).await
            }
            (Err(error), None, _) => Err(error),
        }
    })
}

fn awaits_continue(request: &Request) -> bool {
    request.version != Version::Http10 && request.headers.has_token("expect", "100-continue")
}

fn go_on() -> Interim {
    Interim { status: 100, reason: Bytes::from_static(b"Continue"), ..Interim::default() }
}
