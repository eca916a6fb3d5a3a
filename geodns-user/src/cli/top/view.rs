//! The user's choice of lists, order and filter, and how keys change it. Pure: it knows no terminal.

use std::cmp::Reverse;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::control::watch::{Share, Top};

/// Characters of a filter.
const MAX_FILTER: usize = 64;

/// A list of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum List {
    /// Names and types.
    #[default]
    Names,
    /// Client prefixes.
    Clients,
    /// Mirrors.
    Mirrors,
    /// Regions.
    Regions,
    /// Response codes.
    Rcodes,
    /// Verdicts.
    Verdicts,
}

impl List {
    /// All lists, in the order in which Tab goes through them. Two that follow stand side by side.
    pub const ALL: [Self; 6] = [
        Self::Names,
        Self::Clients,
        Self::Mirrors,
        Self::Regions,
        Self::Rcodes,
        Self::Verdicts,
    ];

    /// Its heading.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Names => "NAME",
            Self::Clients => "CLIENTS",
            Self::Mirrors => "MIRROR",
            Self::Regions => "REGION",
            Self::Rcodes => "RCODE",
            Self::Verdicts => "VERDICT",
        }
    }

    /// This list's rows in a picture.
    fn of(self, top: &Top) -> &[Share] {
        match self {
            Self::Names => &top.names,
            Self::Clients => &top.prefixes,
            Self::Mirrors => &top.mirrors,
            Self::Regions => &top.regions,
            Self::Rcodes => &top.rcodes,
            Self::Verdicts => &top.verdicts,
        }
    }

    fn step(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|list| *list == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }
}

/// Order of the rows of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Most queries first.
    #[default]
    Queries,
    /// By the text of the row.
    Text,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    GoOn,
    /// The user has seen enough.
    Quit,
}

/// The user's choice of lists, order and filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The list that keys are about.
    pub list: List,
    /// Whether that list has the whole screen.
    pub is_alone: bool,
    /// Order of the rows.
    pub sort: Sort,
    /// Text that rows of the chosen list must have in them, in any case of letters.
    pub filter: String,
    /// Whether keys are letters of the filter.
    pub is_typing: bool,
    /// Whether new pictures wait.
    pub is_paused: bool,
    /// Rows of the list that are above the first one shown.
    pub skipped: usize,
}

impl View {
    /// A key was pressed.
    pub fn press(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::GoOn;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Next::Quit,
                _ => Next::GoOn,
            };
        }
        if self.is_typing {
            self.edit(key.code);
            return Next::GoOn;
        }
        match key.code {
            KeyCode::Char('q') => return Next::Quit,
            // Back, one step at a time.
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Esc if self.is_alone => self.is_alone = false,
            KeyCode::Esc => return Next::Quit,
            KeyCode::Tab | KeyCode::Right => self.look_at(self.list.step(1)),
            KeyCode::BackTab | KeyCode::Left => self.look_at(self.list.step(List::ALL.len() - 1)),
            KeyCode::Char(digit @ '1'..='6') => {
                self.look_at(List::ALL[digit as usize - '1' as usize]);
            }
            KeyCode::Enter | KeyCode::Char('z') => self.is_alone = !self.is_alone,
            KeyCode::Char('s') => {
                self.sort = match self.sort {
                    Sort::Queries => Sort::Text,
                    Sort::Text => Sort::Queries,
                };
            }
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Down | KeyCode::Char('j') => self.skipped = self.skipped.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.skipped = self.skipped.saturating_sub(1),
            KeyCode::PageDown => self.skipped = self.skipped.saturating_add(10),
            KeyCode::PageUp => self.skipped = self.skipped.saturating_sub(10),
            KeyCode::Home => self.skipped = 0,
            _ => {}
        }
        Next::GoOn
    }

    fn look_at(&mut self, list: List) {
        self.list = list;
        self.skipped = 0;
    }

    /// A key while the filter is typed.
    fn edit(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(character) if self.filter.chars().count() < MAX_FILTER => {
                self.filter.push(character);
            }
            _ => {}
        }
        self.skipped = 0;
    }

    /// Rows of a list, as the view has them, from its first to its last.
    pub fn rows<'a>(&self, list: List, top: &'a Top) -> Vec<&'a Share> {
        // Of the others, nothing is wanted in particular.
        let wanted = match list == self.list {
            true => self.filter.to_lowercase(),
            false => String::new(),
        };
        let mut rows: Vec<&Share> = list
            .of(top)
            .iter()
            .filter(|share| wanted.is_empty() || share.what.to_lowercase().contains(&wanted))
            .collect();
        match self.sort {
            Sort::Queries => rows.sort_by_key(|share| Reverse(share.queries)),
            Sort::Text => rows.sort_by(|a, b| a.what.cmp(&b.what)),
        }
        rows
    }

    /// Number of rows that are left out above, when `room` of a list's `rows` fit.
    pub fn above(&self, list: List, rows: usize, room: usize) -> usize {
        match list == self.list {
            true => self.skipped.min(rows.saturating_sub(room)),
            false => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::screen::tests::sample;

    fn pressed(view: &mut View, keys: &[KeyCode]) -> Next {
        let mut next = Next::GoOn;
        for code in keys {
            next = view.press((*code).into());
        }
        next
    }

    fn names<'a>(view: &View, top: &'a Top) -> Vec<&'a str> {
        let rows = view.rows(List::Names, top);
        rows.iter().map(|share| &*share.what).collect()
    }

    #[test]
    fn rows_are_sorted_and_filtered() {
        let top = sample();
        let mut view = View::default();
        assert_eq!(
            names(&view, &top),
            [
                "www.example.org. A",
                "mail.example.org. MX",
                "a.example.org. A"
            ]
        );
        pressed(&mut view, &[KeyCode::Char('s')]);
        assert_eq!(
            names(&view, &top),
            [
                "a.example.org. A",
                "mail.example.org. MX",
                "www.example.org. A"
            ]
        );
        let typed = ['/', 'W', 'w', 'x'].map(KeyCode::Char);
        pressed(&mut view, &typed);
        assert_eq!(names(&view, &top), [] as [&str; 0]);
        pressed(&mut view, &[KeyCode::Backspace, KeyCode::Enter]);
        assert_eq!(names(&view, &top), ["www.example.org. A"]);
        // A letter is a command again, and Esc takes back what was chosen before it quits.
        pressed(&mut view, &[KeyCode::Char('z'), KeyCode::Esc]);
        assert!(view.is_alone && view.filter.is_empty());
        assert_eq!(pressed(&mut view, &[KeyCode::Esc]), Next::GoOn);
        assert_eq!(pressed(&mut view, &[KeyCode::Esc]), Next::Quit);
    }

    #[test]
    fn q_quits_but_not_while_a_filter_is_typed() {
        let mut view = View::default();
        let typed = ['/', 'q'].map(KeyCode::Char);
        assert_eq!(pressed(&mut view, &typed), Next::GoOn);
        assert_eq!(view.filter, "q");
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.press(interrupt), Next::Quit);
    }

    #[test]
    fn a_list_scrolls_no_further_than_its_end() {
        let mut view = View::default();
        pressed(&mut view, &[KeyCode::PageDown, KeyCode::Down]);
        assert_eq!(view.above(List::Names, 14, 4), 10);
        assert_eq!(view.above(List::Names, 3, 4), 0);
        assert_eq!(view.above(List::Clients, 14, 4), 0);
        pressed(&mut view, &[KeyCode::Tab]);
        assert_eq!((view.list, view.skipped), (List::Clients, 0));
        pressed(&mut view, &[KeyCode::BackTab, KeyCode::BackTab]);
        assert_eq!(view.list, List::Verdicts);
    }
}
