//! `geodns top`: what is asked and answered, second by second.
//!
//! - `view`: what the user has chosen to see, changed by keys; pure
//! - `screen`: a picture, drawn as the view says, on a terminal of any size
//! - `text`: a picture as text, for `--once` and where there is no terminal

mod screen;
mod text;
mod view;

use std::io::{self, IsTerminal};

use clap::Args;
use crossterm::event::{self, Event};
use ratatui::DefaultTerminal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::output::{print, print_json};
use crate::control::client::Client;
use crate::control::watch::Top;
use view::{Next, View};

/// `geodns top`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Print one snapshot and exit
    #[arg(long)]
    pub once: bool,
}

/// Rows of a list where there is no terminal.
const ROWS: usize = 10;
/// Columns where there is no terminal.
const COLUMNS: usize = 100;
/// Keys that wait to be seen to.
const KEYS: usize = 64;

/// Shows one picture after the other, until somebody has seen enough.
pub async fn top(of: Arguments, client: &Client, json: bool) -> anyhow::Result<()> {
    let mut pictures = client.top().await?;
    let is_screen = io::stdout().is_terminal() && !json && !of.once;
    let mut screen = match is_screen {
        true => Some(Screen::open()?),
        false => None,
    };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut line = Vec::new();
    loop {
        let event = async {
            match &mut screen {
                Some(screen) => screen.events.recv().await,
                None => std::future::pending().await,
            }
        };
        let chunk = tokio::select! {
            chunk = pictures.next() => chunk?,
            event = event => {
                let (Some(event), Some(screen)) = (event, &mut screen) else { break };
                match screen.handle(&event)? {
                    Next::GoOn => continue,
                    Next::Quit => break,
                }
            }
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
        };
        let Some(chunk) = chunk else { break };
        line.extend_from_slice(&chunk);
        while let Some(end) = line.iter().position(|octet| *octet == b'\n') {
            let picture: Vec<u8> = line.drain(..=end).collect();
            match &mut screen {
                None if json => print_json(&picture)?,
                None => print(&text::text(
                    &serde_json::from_slice(&picture)?,
                    COLUMNS,
                    ROWS,
                ))?,
                Some(screen) => screen.show(serde_json::from_slice(&picture)?)?,
            }
            if of.once {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The terminal, given back as it was when this goes, and when the process panics.
struct Screen {
    terminal: DefaultTerminal,
    view: View,
    /// The latest picture; none before the first second is over.
    top: Option<Top>,
    events: mpsc::Receiver<Event>,
}

impl Screen {
    fn open() -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        let (sender, events) = mpsc::channel(KEYS);
        let mut screen = Self {
            terminal,
            view: View::default(),
            top: None,
            events,
        };
        screen.draw()?;
        // It waits for a key when the process ends, and ends with it.
        std::thread::spawn(move || {
            while let Ok(event) = event::read() {
                if sender.blocking_send(event).is_err() {
                    return;
                }
            }
        });
        Ok(screen)
    }

    /// Takes a key, or another size of the terminal.
    fn handle(&mut self, event: &Event) -> io::Result<Next> {
        if let Event::Key(key) = event
            && self.view.press(*key) == Next::Quit
        {
            return Ok(Next::Quit);
        }
        self.draw()?;
        Ok(Next::GoOn)
    }

    /// Shows a new picture, unless the user wants to go on looking at this one.
    fn show(&mut self, top: Top) -> io::Result<()> {
        if self.view.is_paused && self.top.is_some() {
            return Ok(());
        }
        self.top = Some(top);
        self.draw()
    }

    fn draw(&mut self) -> io::Result<()> {
        let Self {
            terminal,
            view,
            top,
            ..
        } = self;
        terminal.draw(|frame| screen::draw(frame, view, top.as_ref()))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
