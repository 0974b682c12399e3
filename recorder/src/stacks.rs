//! User stacks: cut where they stop being stacks, each distinct one kept once, named at the end.
//!
//! The kernel follows frame pointers. Code built without them uses the register for anything, so what comes behind may
//! be junk that looks like a frame: the first frame that lies in no code, or where no call returns to, ends the stack.

use crate::binaries::{Binaries, BuildId};
use crate::lookups::Lookups;
use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{Input, Symbolizer};
use ipc_schema::wire::Frame;
use rustc_hash::FxHashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// How many distinct stacks are kept, and told again with all that lives: 10 MiB if all are deep. The calls of others have
/// none, and are counted.
const MOST_STACKS: usize = 16_384;

/// A frame: the place of its binary and the offset in it; `None`: the innermost, in code without a build id.
type Place = Option<(u32, u64)>;

/// Every distinct stack.
#[derive(Default)]
pub struct Stacks {
    ids: FxHashMap<Arc<[Place]>, i64>,
    /// In the order of their ids, which begin at 1.
    list: Vec<Arc<[Place]>>,
    binaries: Binaries,
    program: Option<PathBuf>,
    /// How many were told.
    told: usize,
    /// Stacks that were too many.
    pub refused: u64,
}

/// Stacks as they were met: with the binaries known by then, without the names of functions.
#[derive(Default)]
pub struct Met {
    stacks: Vec<(i64, Arc<[Place]>)>,
    binaries: Vec<(BuildId, Option<Arc<str>>)>,
}

/// A row of the table `stacks`.
pub struct StackRow {
    /// Its stack.
    pub stack_id: i64,
    /// 0 is the innermost.
    pub frame: i32,
    /// Of the binary.
    pub build_id: Option<BuildId>,
    /// In the binary's file.
    pub offset: Option<u64>,
    /// Path of the binary.
    pub module: Option<Arc<str>>,
    /// Name and offset.
    pub symbol: Option<Arc<str>>,
}

impl Stacks {
    /// Whom to ask for the binaries of processes.
    pub fn look_up_with(&mut self, lookups: Lookups) {
        self.binaries.lookups = lookups;
    }

    /// The program that was recorded: it may have ended before anybody could look at what it had mapped.
    pub fn set_program(&mut self, program: PathBuf) {
        self.program = Some(program);
    }

    /// The id of a stack of this process; `None` if nothing of it is a stack, or there are too many.
    pub fn id(&mut self, pid: u32, frames: impl Iterator<Item = Frame>) -> Option<i64> {
        let places = self.places(pid, frames);
        if let Some(id) = self.ids.get(places.as_slice()) {
            return Some(*id);
        }
        if places.is_empty() {
            return None;
        }
        if self.list.len() == MOST_STACKS {
            self.refused += 1;
            return None;
        }
        let places: Arc<[Place]> = places.into();
        self.list.push(places.clone());
        let id = self.list.len() as i64;
        self.ids.insert(places, id);
        Some(id)
    }

    fn places(&mut self, pid: u32, frames: impl Iterator<Item = Frame>) -> Vec<Place> {
        let mut places = Vec::new();
        for frame in frames {
            let place =
                (frame.status == Frame::VALID).then(|| (self.binaries.place(frame.build_id, pid), frame.offset));
            // The innermost frame is where the thread is, in whatever code.
            if !places.is_empty() && !self.is_code(place) {
                break;
            }
            places.push(place);
        }
        places
    }

    fn is_code(&self, place: Place) -> bool {
        place.is_some_and(|(binary, offset)| self.binaries.at(binary).is_some_and(|b| b.has_code_at(offset)))
    }

    fn is_returned_to(&self, place: Place) -> bool {
        place.is_some_and(|(binary, offset)| self.binaries.at(binary).is_some_and(|b| b.is_returned_to(offset)))
    }

    /// The stacks that are new since the last time, or all.
    pub fn met(&mut self, all: bool) -> Met {
        let from = if all { 0 } else { self.told };
        self.told = self.list.len();
        if from == self.told {
            return Met::default();
        }
        let stacks = (1..).zip(&self.list).skip(from).map(|(id, places)| (id, places.clone())).collect();
        Met { stacks, binaries: self.binaries.known().collect() }
    }

    /// The recording is over: every stack, a row for each frame.
    pub fn into_rows(mut self) -> impl Iterator<Item = StackRow> {
        self.binaries.look_everywhere(self.program.as_deref());
        let mut names = Names::new();
        let list = std::mem::take(&mut self.list);
        list.into_iter().zip(1..).flat_map(move |(places, stack_id)| {
            // Now that there is time to read the binaries: a frame is junk, too, if no call returns there.
            let kept = places.iter().skip(1).take_while(|p| self.is_returned_to(**p)).count() + 1;
            let row = |(i, place): (usize, &Place)| self.row(stack_id, i as i32, *place, &mut names);
            places[..kept].iter().enumerate().map(row).collect::<Vec<_>>()
        })
    }

    fn row(&self, stack_id: i64, frame: i32, place: Place, names: &mut Names) -> StackRow {
        let binary = place.and_then(|(binary, _)| self.binaries.at(binary));
        let module = binary.and_then(|b| b.found.as_ref()).map(|f| f.path.clone());
        let symbol = place.filter(|_| module.is_some()).and_then(|(binary, offset)| {
            names.name((binary, offset, frame == 0), || Some(self.binaries.at(binary)?.found.as_ref()?.openable()))
        });
        let offset = place.map(|(_, offset)| offset);
        StackRow { stack_id, frame, build_id: binary.map(|b| b.build_id), offset, module, symbol }
    }
}

impl Met {
    /// A row for each frame.
    pub fn rows(&self) -> impl Iterator<Item = StackRow> {
        let row = |stack_id: i64, frame: i32, place: Place| {
            let binary = place.and_then(|(binary, _)| self.binaries.get(binary as usize));
            let (build_id, module) = binary.cloned().unzip();
            let (offset, module) = (place.map(|(_, offset)| offset), module.flatten());
            StackRow { stack_id, frame, build_id, offset, module, symbol: None }
        };
        let rows = move |(id, places): &(i64, Arc<[Place]>)| {
            let id = *id;
            places.iter().zip(0..).map(move |(place, frame)| row(id, frame, *place)).collect::<Vec<_>>()
        };
        self.stacks.iter().flat_map(rows)
    }
}

/// The names of places, each looked up once.
struct Names {
    symbolizer: Symbolizer,
    known: FxHashMap<(u32, u64, bool), Option<Arc<str>>>,
}

impl Names {
    fn new() -> Names {
        let symbolizer =
            Symbolizer::builder().enable_code_info(false).enable_inlined_fns(false).enable_auto_reload(false).build();
        Names { symbolizer, known: FxHashMap::default() }
    }

    /// The function of a binary's place and the offset in it. `place` ends in whether the frame is the innermost: an
    /// outer one says where its call returns to, which may lie behind the end of the function.
    fn name(&mut self, place: (u32, u64, bool), path: impl FnOnce() -> Option<PathBuf>) -> Option<Arc<str>> {
        let symbolizer = &self.symbolizer;
        let look_up = || {
            let (_, offset, is_innermost) = place;
            let back = u64::from(!is_innermost);
            let source = Source::Elf(Elf { debug_syms: false, ..Elf::new(path()?) });
            let found = symbolizer.symbolize_single(&source, Input::FileOffset(offset.checked_sub(back)?)).ok()?;
            let symbol = found.into_sym()?;
            Some(format!("{}+{:#x}", symbol.name, symbol.offset as u64 + back).into())
        };
        self.known.entry(place).or_insert_with(look_up).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(status: i32, offset: u64) -> Frame {
        Frame { status, build_id: [7; 20], offset }
    }

    #[test]
    fn a_stack_ends_at_the_first_frame_that_is_no_code() {
        let mut stacks = Stacks::default();
        let whole = [frame(1, 10), frame(1, 20)];
        let id = stacks.id(u32::MAX, whole.into_iter());
        for junk in [frame(2, 0x7fff_0000), frame(0, 0), frame(1, 0xffff_aa74_dead_0000)] {
            let frames = whole.into_iter().chain([junk, frame(1, 30)]);
            assert_eq!(stacks.id(u32::MAX, frames), id, "{junk:?}");
        }
        let innermost = stacks.id(u32::MAX, [frame(2, 0x7fff_0000), frame(1, 20)].into_iter());
        assert!(innermost.is_some() && innermost != id, "the innermost frame stays");
        assert_eq!(stacks.id(u32::MAX, [].into_iter()), None);
        let rows: Vec<_> = stacks.into_rows().map(|r| (r.stack_id, r.frame, r.offset)).collect();
        assert_eq!(rows, [(1, 0, Some(10)), (1, 1, Some(20)), (2, 0, None), (2, 1, Some(20))]);
    }

    #[test]
    fn too_many_stacks_are_counted() {
        let mut stacks = Stacks::default();
        for offset in 0..MOST_STACKS as u64 + 3 {
            stacks.id(u32::MAX, [frame(1, offset)].into_iter());
        }
        assert_eq!((stacks.refused, stacks.id(u32::MAX, [frame(1, 0)].into_iter())), (3, Some(1)));
    }
}
