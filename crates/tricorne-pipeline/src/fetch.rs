//! The fetch stage: the plan's settings and the HTTP client behind the runner's [`Fetch`] trait.

use std::num::NonZeroUsize;
use std::time::Duration;

use tricorne_http::{Client, ClientConfig, Concurrency};

use crate::error::RunError;
use crate::plan::{self, Limit};
use crate::record::{Failure, Page, Record};
use crate::report::FetchStats;
use crate::runner::{BoxFuture, Fetch};

/// Requests in flight at the most when the plan leaves it open: to all hosts, and to one.
pub(crate) const AUTO_MAX: usize = 256;
const AUTO_MAX_PER_HOST: usize = 64;

pub(crate) struct HttpFetch {
    client: Client,
}

impl HttpFetch {
    pub(crate) fn new(plan: &plan::Fetch) -> Result<Self, RunError> {
        let extra_root_pem = match &plan.ca_file {
            Some(path) => std::fs::read(path).map_err(RunError::io("read", path))?,
            None => Vec::new(),
        };
        let limit = |limit, max| match limit {
            Limit::Auto => Concurrency::Auto { max },
            Limit::Fixed(limit) => Concurrency::Fixed(NonZeroUsize::get(limit)),
        };
        let (concurrency, per_host) =
            (limit(plan.concurrency, AUTO_MAX), limit(plan.per_host, AUTO_MAX_PER_HOST));
        let config = ClientConfig {
            concurrency,
            per_host,
            rate_per_host: plan.rate_per_host,
            // Kept for all that may be in flight, or a limit above would open a connection for each page.
            idle_per_host: per_host.max(),
            idle_total: concurrency.max(),
            connect_timeout: Duration::from_secs_f64(plan.connect_secs),
            first_byte_timeout: Duration::from_secs_f64(plan.first_byte_secs),
            stall_timeout: Duration::from_secs_f64(plan.stall_secs),
            total_timeout: Duration::from_secs_f64(plan.timeout_secs),
            retries: plan.retries,
            retry_base: Duration::from_secs_f64(plan.retry_base_secs),
            retry_max_delay: Duration::from_secs_f64(plan.retry_max_secs),
            retry_after_max: Duration::from_secs_f64(plan.retry_after_max_secs),
            max_redirects: plan.max_redirects,
            max_body_bytes: plan.max_body_bytes,
            max_decoded_bytes: plan.max_decoded_bytes,
            user_agent: plan.user_agent.clone(),
            headers: plan.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            private_addresses: plan.private_addresses,
            extra_root_pem,
            ..ClientConfig::default()
        };
        let client = Client::new(config).map_err(|error| RunError::Client { source: Box::new(error) })?;
        Ok(HttpFetch { client })
    }
}

impl Fetch for HttpFetch {
    fn fetch<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<Page, Failure>> {
        Box::pin(async move {
            match self.client.get(&record.url).await {
                Ok(fetched) => Ok(Page {
                    final_url: Some(fetched.final_url),
                    status: Some(fetched.status),
                    content_type: fetched.content_type,
                    body: fetched.body,
                    attempts: fetched.attempts,
                    guard: Some(Box::new(fetched.permit)),
                }),
                Err(failure) => Err(Failure {
                    stage: "fetch".into(),
                    kind: failure.kind.to_string(),
                    message: failure.to_string(),
                    attempts: failure.attempts,
                }),
            }
        })
    }

    fn stats(&self) -> FetchStats {
        let stats = self.client.stats();
        FetchStats {
            requests: stats.requests,
            retries: stats.retries.iter().map(|(kind, count)| (kind.to_string(), *count)).collect(),
            wire_bytes: stats.wire_bytes,
            connections: stats.connections_opened,
            in_flight: stats.in_flight as u64,
            limit: stats.limit as u64,
        }
    }
}
