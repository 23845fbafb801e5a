//! What every route serves and reports.

use std::sync::Arc;

use crate::http::budget::Budget;
use crate::http::limits::HttpLimits;
use crate::http::naming::Naming;
use crate::keys::Keys;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::model::repository::ModelRepository;
use crate::watched::Watched;

/// What the routes serve and report.
#[derive(Debug)]
pub struct App {
    /// The models.
    pub repository: Arc<ModelRepository>,
    /// The series that requests count into, and the metrics page.
    pub metrics: Metrics,
    /// Whether new requests are welcome.
    pub lifecycle: Arc<Lifecycle>,
    /// The bounds of every request.
    pub limits: HttpLimits,
    /// Who may ask for more than health; `None` for everybody.
    pub keys: Option<Arc<Watched<Keys>>>,
    /// What requests may leave out or call by other names.
    pub naming: Naming,
    /// Whether the metrics page is here, and not on a listener of its own.
    pub has_metrics_page: bool,
}

/// What every handler gets.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) app: Arc<App>,
    /// The memory of the requests in flight.
    pub(super) budget: Budget,
}

impl Server {
    /// A server of `app`, with nothing in flight.
    pub(super) fn new(app: Arc<App>) -> Self {
        Self {
            budget: Budget::within(&app.limits),
            app,
        }
    }
}
