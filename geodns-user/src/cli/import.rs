//! `geodns map import`: streams a list to the daemon and shows how far it is.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::fs::File;
use tokio::io::{self, AsyncRead};

use crate::control::client::{Client, Reply};
use crate::control::map::ImportQuery;
use crate::control::map::Progress;

/// Sends `file` (`-`: standard input). Progress goes to standard error, if that is a terminal.
pub async fn import(client: &Client, file: &Path, pool: Option<String>) -> anyhow::Result<Reply> {
    let (list, name, length): (Box<dyn AsyncRead + Send + Unpin>, _, _) = if file == Path::new("-")
    {
        (Box::new(io::stdin()), "standard input".to_owned(), None)
    } else {
        let name = file.display().to_string();
        let list = File::open(file)
            .await
            .with_context(|| format!("cannot read {name}"))?;
        let metadata = list.metadata().await?;
        anyhow::ensure!(
            !metadata.is_dir(),
            "cannot read {name}: it is a folder; name a file of prefix,mirror lines"
        );
        let length = metadata.is_file().then_some(metadata.len());
        (Box::new(list), name, length)
    };
    let bar = bar(length);
    let import = ImportQuery {
        name: Some(name),
        pool,
    };
    let progress = {
        let bar = bar.clone();
        move |progress| match progress {
            Progress::Sent(octets) => bar.set_position(octets),
            Progress::Waiting => bar.set_style(style("{spinner} compiling, {elapsed}")),
        }
    };
    let reply = client.map_import(list, &import, progress).await;
    bar.finish_and_clear();
    Ok(reply?)
}

fn bar(length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{spinner} reading [{wide_bar}] {bytes} of {total_bytes}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} reading, {bytes}"),
    };
    bar.set_style(style(template));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("templates are constants")
        .progress_chars("=> ")
}
