#![allow(missing_docs)]
use std::time::Duration;

use geodns_common::abi::Settings;
use geodns_common::tables::Tables;
use geodns_tests::bench::flood::{Flood, first};
use geodns_tests::bench::{quantile, world};
use geodns_tests::rig::{Responder, With};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rounds: usize = args[0].parse().unwrap();
    let list = std::env::var_os("AB_LIST");
    let w = world::compiled(list.as_deref().map(std::path::Path::new)).unwrap();
    let plan = w.plan.read().unwrap();
    let mut flood = Flood::new(world::NAME).unwrap();
    let mut rs = Vec::new();
    for o in &args[1..] {
        let (object, stop) = o.split_once(':').unwrap_or((o, "0"));
        unsafe { std::env::set_var("GEODNS_EBPF_OBJECT", format!("/tmp/obj/{object}")) };
        let settings = Settings {
            stop: stop.parse().unwrap(),
            ..*plan.settings()
        };
        let mut r = Responder::load(&With::settings(&*plan, settings), plan.capacity()).unwrap();
        flood.listen(&mut r).unwrap();
        rs.push((o.clone(), r, Vec::new()));
    }
    let mut reflector = Vec::new();
    first(1, || {
        for _ in 0..rounds {
            let ns = |flow: geodns_tests::bench::flood::Flow| {
                flow.time.as_nanos() as f64 / flow.sent as f64
            };
            reflector.push(ns(flood.reflector(Duration::from_millis(20))?));
            for (_, r, times) in &mut rs {
                times.push(ns(flood.responder(r, Duration::from_millis(20))?));
            }
        }
        Ok(())
    })
    .unwrap();
    let show = |name: &str, times: &[f64]| {
        println!(
            "{name:20} p10 {:6.1}  p25 {:6.1}  median {:6.1}",
            quantile(times, 0.1),
            quantile(times, 0.25),
            quantile(times, 0.5)
        );
    };
    show("reflector", &reflector);
    for (name, _, times) in &rs {
        show(name, times);
    }
}
