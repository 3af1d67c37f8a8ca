//! Congestion control for homes: Cubic (RFC 9438) whose window never falls below what a Wi-Fi
//! link carries in one round trip.
//!
//! On Wi-Fi a lost packet mostly means noise, not a full queue. Cubic closes its window all the
//! same: with 1.5 % of all packets lost at random and a round trip of 12 ms it gives about 5 of
//! the 20 Mbit/s that the link has, and after a stall it begins anew with two packets. The floor
//! bounds what that costs. The harm it can do is bounded, too: on a link that is really full it
//! keeps [`FLOOR`] bytes in the queue, 130 ms at 2 Mbit/s.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig};
use quinn_proto::RttEstimator;

/// Bytes that may always be under way: 21 Mbit/s at a round trip of 12 ms.
const FLOOR: u64 = 32 * 1024;

/// Makes the controllers.
#[derive(Debug, Default)]
pub(super) struct Home(Arc<CubicConfig>);

impl ControllerFactory for Home {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Floored(Cubic::new(self.0.clone(), now, current_mtu)))
    }
}

/// Cubic above the floor.
#[derive(Clone)]
struct Floored(Cubic);

impl Controller for Floored {
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.0.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.0.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.0.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.0.window().max(FLOOR)
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.0.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.0.initial_window().max(FLOOR)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_close_the_window_to_the_floor_and_no_further() {
        let start = Instant::now();
        let mut controller = Arc::new(Home::default()).build(start, 1200);
        assert!(controller.initial_window() >= FLOOR);
        for n in 1..20 {
            let now = start + std::time::Duration::from_millis(100 * n);
            controller.on_congestion_event(now, now, true, 1200);
        }
        assert_eq!(controller.window(), FLOOR);
        assert_eq!(controller.clone_box().window(), FLOOR);
    }
}
