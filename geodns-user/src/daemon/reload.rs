//! `reload`, SIGHUP: reads the configuration and all its files again. On an error nothing changes.

use std::sync::Arc;

use async_trait::async_trait;

use super::audit::{self, Who};
use super::control::Control;
use super::cookies;
use super::force::internal;
use super::inputs::{self, load_running, warn_of};
use super::overrides::layers;
use super::report::systemd;
use super::zones::{acme, catalogs};
use super::{Daemon, mirrors};
use crate::base::complaint::Errors;
use crate::config::{Config, ZoneFile};
use crate::control::by::By;
use crate::control::problem::Failure;
use crate::control::reload::Reloaded;
use crate::kernel::netdev::Netdevs;
use crate::world::{Inputs, Warning};
use crate::zone::{self, Zone};

impl Daemon {
    /// `reload`, SIGHUP: reads everything again. On an error nothing changes.
    pub async fn reload_all(self: &Arc<Self>, by: &By) -> Result<Reloaded, Failure> {
        systemd::reloading();
        let reloaded = self.try_reload().await;
        audit::reload(&Who::of(by), &reloaded);
        self.metrics.reloaded(reloaded.is_ok());
        let failed = reloaded.as_ref().err();
        self.report.failure.set(failed.map(ToString::to_string));
        systemd::ready(&self.summary());
        reloaded
    }

    async fn try_reload(self: &Arc<Self>) -> Result<Reloaded, Failure> {
        let netdevs = self.listening.netdevs().await.map_err(internal)?;
        let _alone = self.read_alone().await?;
        let read = self.blocking(Self::read_files).await?;
        let listeners = self
            .listeners
            .prepare(&read.config)
            .map_err(Failure::Invalid)?;
        let before = self.world.load().zones.load_full();
        let mut reloaded = self
            .change(move |daemon| daemon.reload(read, &netdevs))
            .await?;
        self.open_listeners(listeners);
        self.follow_zones(Some(&before));
        self.notify_from(&self.world.load().inputs.config, self.events.journal.last());
        self.share_ledgers().await;
        self.set_dnstap(&self.world.load().inputs.config);
        // The plan is in force all the same.
        reloaded.warning = match self.follow_interfaces().await {
            Ok(()) => self.not_attached(),
            Err(error) => Some(format!("{error:#}")),
        };
        Ok(reloaded)
    }

    /// Reads the configuration and its files. Zones that come from elsewhere stay empty.
    fn read_files(&self) -> Result<Inputs, Failure> {
        let invalid = |error: Errors| Failure::Invalid(error.to_string());
        let world = self.world.load_full();
        let config = load_running(&self.options).map_err(invalid)?;
        let previous = Some(&*world.inputs.geography);
        inputs::read(config, &[], previous, &|_| None).map_err(invalid)
    }

    /// Completes files that were read: with members of catalogs, and with zones from elsewhere as they are now.
    fn complete(&self, read: Inputs) -> Result<Inputs, Failure> {
        let members = self.state.members().map_err(internal)?;
        if members.is_empty() && read.config.zones.iter().all(|zone| zone.file.is_some()) {
            return Ok(read);
        }
        let mut config = Config::clone(&read.config);
        config.set_members(&members);
        let of_files = Arc::unwrap_or_clone(read.zones);
        let zone = |zone: &ZoneFile| {
            let read = of_files.number(zone.name.for_slice());
            match read.filter(|_| zone.file.is_some()) {
                Some(number) => Arc::clone(&of_files[number]),
                None => self
                    .kept_zone(zone)
                    .unwrap_or_else(|| Arc::new(Zone::empty(zone.name.clone()))),
            }
        };
        let zones = config.zones.iter().map(zone).collect();
        // Before names are marked on them: what nobody else has need not be copied.
        drop(of_files);
        let zones =
            zone::arranged(&config, zones).map_err(|error| Failure::Invalid(error.to_string()))?;
        Ok(Inputs {
            config: Arc::new(config),
            zones: Arc::new(zones),
            ..read
        })
    }

    /// Puts files that were read in force. Every step that can fail stands before the commit.
    fn reload(&self, read: Inputs, netdevs: &Netdevs) -> Result<Reloaded, Failure> {
        let world = self.world.load_full();
        let mut inputs = self.complete(read)?;
        warn_of(&inputs);
        let zones = Arc::make_mut(&mut inputs.zones);
        acme::put_over_all(&inputs.config, &self.state, zones)?;
        let ledgers = catalogs::produce(&inputs.config, &self.state, zones)?;
        zones.make_offers(&inputs.config, &world.zones.load(), None);
        let mut config = Config::clone(&inputs.config);
        let fixed = keep_fixed(&mut config, &world.inputs.config);
        inputs.config = Arc::new(config);
        if self.has_kernel()
            && inputs.config.kernel.required
            && let Some(name) = inputs
                .config
                .kernel
                .interfaces
                .iter()
                .find(|name| netdevs.named(name).is_none())
        {
            return Err(Failure::Invalid(format!(
                "{}: kernel.interfaces: no interface {name:?}; there are {}",
                inputs.config.path.display(),
                netdevs.names()
            )));
        }
        let layers = layers(&inputs, &self.state).map_err(internal)?;
        let generation = world.generation + 1;
        self.in_service.current().findings.foresee(&inputs.config);
        let next = self.compile(&inputs, &layers, generation)?;
        inputs.unmatched().iter().for_each(Warning::log);
        let cookies = cookies::secrets(&inputs.config, &self.state).map_err(internal)?;
        let rules = self.block_rules.compile(&inputs.config, &self.state)?;
        let instance = self.prepare(&next)?;
        // If it is not in force then after all, the next reload lists what there is by then.
        // In a fleet they are shared after that.
        if self.fleet.is_none() {
            catalogs::save(&self.state, &ledgers)?;
        }
        self.commit_with(
            next,
            instance,
            Some((Arc::clone(&rules.blocks), &rules.fresh)),
        )?;
        self.block_rules.put(rules);
        mirrors::warn_of_unknown(&inputs.config, &self.in_service.standings());
        self.check_anew(&inputs.config);
        self.set_cookies(&inputs.config, cookies);
        // Who listens is set anew after this.
        self.server
            .set_tls(inputs.config.tls.as_ref().map(|tls| tls.port));
        self.server.set_certificate(inputs.certificate.clone());
        if let Some(mut kernel) = self.lock_kernel() {
            let interfaces = &inputs.config.kernel.interfaces;
            kernel.set_interfaces(interfaces.clone());
            kernel.set_next(inputs.config.kernel.next.clone());
            for complaint in netdevs.needless(interfaces) {
                tracing::warn!("{complaint}");
            }
        }
        if !fixed.is_empty() {
            let (file, keys) = (inputs.config.path.display(), fixed.join(", "));
            tracing::warn!(
                %file,
                keys,
                "changed in {file}, and in force only after a restart: {keys}"
            );
        }
        Ok(Reloaded {
            generation,
            warning: None,
        })
    }
}

/// Keeps the keys that a running daemon cannot change. Gives those that were to change.
fn keep_fixed(new: &mut Config, old: &Config) -> Vec<&'static str> {
    let mut changed = Vec::new();
    macro_rules! keep {
        ($name:literal, $($field:ident).+) => {
            if new.$($field).+ != old.$($field).+ {
                changed.push($name);
                new.$($field).+.clone_from(&old.$($field).+);
            }
        };
    }
    keep!("server.port", server.port);
    keep!("kernel.mode", kernel.mode);
    keep!("kernel.pin", kernel.pin);
    keep!("kernel.stale_after", kernel.stale_after);
    keep!("control.socket", socket);
    keep!("control.group", group);
    keep!("state.path", state);
    keep!("health.feed", health_feed);
    keep!("fleet", fleet);
    match (&mut new.announce, &old.announce) {
        (Some(new), Some(old)) if new.device != old.device => {
            changed.push("announce.device");
            new.device.clone_from(&old.device);
        }
        (Some(_), Some(_)) | (None, None) => {}
        (new, old) => {
            changed.push("announce");
            new.clone_from(old);
        }
    }
    changed
}

#[async_trait]
impl crate::control::reload::Service for Control {
    async fn reload(&self, zone: Option<String>) -> Result<Reloaded, Failure> {
        // To its end, even if the client does not wait.
        let (daemon, by) = (Arc::clone(&self.0), By::current());
        let reloading = tokio::spawn(async move {
            match zone {
                Some(zone) => daemon.reload_zone(&zone, &by).await,
                None => daemon.reload_all(&by).await,
            }
        });
        let else_say = "nothing has been reloaded, but will be if the disk answers after all";
        let reloaded = self.0.while_disk_answers(else_say, reloading).await?;
        reloaded.map_err(|error| Failure::Internal(error.to_string()))?
    }
}
