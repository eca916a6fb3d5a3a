//! The stubs of both builds, kept alike: they call the same instance, and the same next program.

use std::path::PathBuf;
use std::sync::Arc;

use geodns_common::layout::Callee;

use super::Error;
use super::instance::Instance;
use super::stub::{Build, Next, Stub};

/// The stubs of both builds, with all that they call.
#[derive(Clone, Debug)]
pub struct Stubs {
    object: &'static [u8],
    plain: Arc<Stub>,
    /// `None`: no driver has refused the plain one yet.
    frags: Option<Arc<Stub>>,
    next: Option<Arc<Next>>,
}

impl Stubs {
    /// Takes over the stubs that a daemon before us has pinned, where they are those that this object has. `pin`: the
    /// paths of a stub and its array.
    pub fn open(
        object: &'static [u8],
        pin: impl Fn(Build) -> [PathBuf; 2],
        next: Option<Arc<Next>>,
    ) -> Result<Self, Error> {
        let plain = Stub::new(object, Build::Plain)?;
        let [program, array] = pin(Build::Plain);
        let plain = plain.adopt(&program, &array).unwrap_or(plain);
        let [program, array] = pin(Build::Frags);
        let frags = match program.exists() {
            true => Stub::new(object, Build::Frags)?.adopt(&program, &array),
            false => None,
        };
        Ok(Self {
            object,
            plain: Arc::new(plain),
            frags: frags.map(Arc::new),
            next,
        })
    }

    /// The stub without the frags mark.
    pub fn plain(&self) -> &Stub {
        &self.plain
    }

    /// The stub of a build, if it is loaded.
    pub fn get(&self, build: Build) -> Option<&Stub> {
        match build {
            Build::Plain => Some(&self.plain),
            Build::Frags => self.frags.as_deref(),
        }
    }

    /// The stub with the frags mark. It calls the next program already: one that cannot be called from it must not be
    /// gone past.
    pub fn frags(&mut self) -> Result<&Stub, Error> {
        let stub = match self.frags.take() {
            Some(stub) => stub,
            None => Arc::new(Stub::new(self.object, Build::Frags)?),
        };
        let stub = self.frags.insert(stub);
        stub.set_next(self.next.as_deref())?;
        Ok(stub)
    }

    /// The build of a stub with this number.
    pub fn build(&self, program: Option<u32>) -> Option<Build> {
        let mut builds = [Build::Plain, Build::Frags].into_iter();
        builds.find(|&build| program.is_some() && self.get(build).map(Stub::id) == program)
    }

    /// The program that gets the packets that are passed.
    pub fn next(&self) -> Option<&Arc<Next>> {
        self.next.as_ref()
    }

    /// Puts the next program into the array of the plain stub, or does without it.
    pub fn set_next_of_plain(&self) {
        if let Err(error) = self.plain.set_next(self.next.as_deref()) {
            tracing::error!("{error}; packets that are passed go to the network stack at once");
        }
    }

    /// Has each stub call an instance, whose packets go on to its own next program. On an error some of them may call it.
    pub fn call(&mut self, instance: &mut Instance) -> Result<(), Error> {
        let next = instance.next().cloned();
        let is_new = next.as_ref().map(|next| next.id) != self.next.as_ref().map(|next| next.id);
        if let Some(frags) = &self.frags {
            if is_new {
                frags.set_next(next.as_deref())?;
            }
            match instance.has_frags() {
                true => frags.call(Callee::Answers, instance.program_fd(Build::Frags)?)?,
                false => frags.call_no_more(Callee::Answers)?,
            }
        }
        if is_new {
            self.plain.set_next(next.as_deref())?;
        }
        self.plain
            .call(Callee::Answers, instance.program_fd(Build::Plain)?)?;
        self.next = next;
        Ok(())
    }

    /// Has both stubs call an instance, which gets the build with the frags mark for that.
    pub fn call_both(&mut self, instance: &mut Instance) -> Result<(), Error> {
        instance.load_frags(self.frags()?)?;
        self.call(instance)
    }

    /// Has each stub pass every packet.
    pub fn call_no_more(&self) -> Result<(), Error> {
        for stub in [Some(&self.plain), self.frags.as_ref()]
            .into_iter()
            .flatten()
        {
            stub.call_no_more(Callee::Answers)?;
        }
        Ok(())
    }

    /// Lets go of the stub with the frags mark.
    pub fn drop_frags(&mut self) {
        self.frags = None;
    }

    /// Refuses a next program that cannot be called from a build.
    pub fn check_next(&self, build: Build, next: &Next) -> Result<(), Error> {
        Stub::new(self.object, build)?.set_next(Some(next))
    }
}
