use diagnostics::{Diagnostic, Narration};
use input_validation::RequestId;
use queen_contract::Waiting;
use scheduler::{Assignment, AttemptFailure, RequestOutcome};
use tokio::sync::mpsc;

/// Notices that may be pending for one request.
const NOTICE_CAPACITY: usize = 16;

/// An instruction of the dispatcher to the owner of a request.
#[derive(Debug)]
pub enum Order {
    /// Run the request on this worker.
    Run(Box<Assignment>),
    /// End the request with this error.
    End(Diagnostic),
}

/// News for the client of a request that waits.
#[derive(Debug)]
pub enum Notice {
    /// Progress of what it waits for.
    Narration(Narration),
    /// Why it waits, and its position.
    Waiting(Waiting),
}

/// What the owner of a request receives from the dispatcher.
#[derive(Debug)]
pub enum Directive {
    Order(Order),
    Notice(Notice),
}

/// Identifies one acceptance of a request: a client may use the same id again as soon as the
/// request has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acceptance(pub(crate) u64);

/// What the owner of a request reports to the dispatcher.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) id: RequestId,
    pub(crate) acceptance: Acceptance,
    pub(crate) what: Reported,
}

#[derive(Debug)]
pub(crate) enum Reported {
    AttemptFailed(AttemptFailure),
    Finished(RequestOutcome),
}

/// The dispatcher's end of an [`OpenRequest`].
#[derive(Debug)]
pub(crate) struct Recipient {
    pub(crate) acceptance: Acceptance,
    /// Unbounded, so that no order is lost. At most two orders are pending: one assignment,
    /// which the owner must report on before the next, and one to end the request.
    orders: mpsc::UnboundedSender<Order>,
    /// Notices are dropped when the client reads too slowly.
    notices: mpsc::Sender<Notice>,
}

impl Recipient {
    pub(crate) fn order(&self, order: Order) {
        // The drop of an owner that is gone reports the end of its request.
        let _ = self.orders.send(order);
    }

    pub(crate) fn notify(&self, notice: Notice) {
        let _ = self.notices.try_send(notice);
    }
}

/// A request that the dispatcher has accepted and that has not finished. Dropping it reports
/// that the request was cancelled, or that it failed if the thread panics.
#[derive(Debug)]
pub struct OpenRequest {
    id: RequestId,
    acceptance: Acceptance,
    reports: mpsc::Sender<Report>,
    orders: mpsc::UnboundedReceiver<Order>,
    notices: mpsc::Receiver<Notice>,
    finished: bool,
}

impl OpenRequest {
    pub(crate) fn new(
        id: RequestId,
        acceptance: Acceptance,
        reports: mpsc::Sender<Report>,
    ) -> (Self, Recipient) {
        let (order_sender, orders) = mpsc::unbounded_channel();
        let (notice_sender, notices) = mpsc::channel(NOTICE_CAPACITY);
        let request = Self {
            id,
            acceptance,
            reports,
            orders,
            notices,
            finished: false,
        };
        let recipient = Recipient {
            acceptance,
            orders: order_sender,
            notices: notice_sender,
        };
        (request, recipient)
    }

    /// Waits for the next order or notice; notices that precede an order come first.
    /// Cancel safe.
    pub async fn next(&mut self) -> Directive {
        tokio::select! {
            biased;
            Some(notice) = self.notices.recv() => Directive::Notice(notice),
            order = self.orders.recv() => {
                Directive::Order(order.unwrap_or_else(|| Order::End(dispatcher_stopped())))
            }
        }
    }

    /// Waits for the order to end the request. No other order is sent while a worker runs it.
    /// Cancel safe.
    pub async fn ended(&mut self) -> Diagnostic {
        loop {
            match self.orders.recv().await {
                Some(Order::End(error)) => return error,
                Some(Order::Run(_)) => {}
                None => return dispatcher_stopped(),
            }
        }
    }

    /// Reports that the worker did not complete the request; an order follows.
    pub async fn attempt_failed(&mut self, failure: AttemptFailure) {
        let report = self.report(Reported::AttemptFailed(failure));
        // Without a dispatcher, the next order is to end.
        let _ = self.reports.send(report).await;
    }

    /// Reports how the request finished.
    pub async fn finish(mut self, outcome: RequestOutcome) {
        self.finished = true;
        let report = self.report(Reported::Finished(outcome));
        let _ = self.reports.send(report).await;
    }

    fn report(&self, what: Reported) -> Report {
        Report {
            id: self.id.clone(),
            acceptance: self.acceptance,
            what,
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let outcome = if std::thread::panicking() {
            RequestOutcome::Failed
        } else {
            RequestOutcome::Cancelled
        };
        let report = self.report(Reported::Finished(outcome));
        if let Err(mpsc::error::TrySendError::Full(report)) = self.reports.try_send(report) {
            let reports = self.reports.clone();
            tokio::spawn(async move { reports.send(report).await });
        }
    }
}

pub(crate) fn dispatcher_stopped() -> Diagnostic {
    Diagnostic::internal("the dispatcher has stopped")
}
