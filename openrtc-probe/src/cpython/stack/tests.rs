//! Stacks made by hand, of threads that stand still and of such that do not.

use std::cell::Cell;

use super::*;
use crate::cpython::{
    NsTid,
    fake::{CODE, LAYOUT, World},
    layout::{Frames, Instruction, Layout, common},
    memory::{ReadError, image::Image},
};

/// Four instructions in the lines 7, 8, 9 and 10.
const TABLE: &[u8] = &[0x80, 0, 0xd8, 0, 0xd8, 0, 0xd8, 0];
const TID: u32 = 77;
/// `context_ver` at first.
const VERSION: u64 = 5;

/// A function's code object.
fn code(world: &mut World, function: &str) -> u64 {
    let table = world.object(0x1100, &[TABLE.len() as u64, 0, 0, 0]);
    world.image.put(table + common::BYTES_DATA, TABLE);
    let (function, file) = (world.str(function), world.str("/app/agent.py"));
    world.object(CODE, &[file, function, function, 7, table, 0, 0])
}

/// Puts a frame at `at` that is at its instruction of the number `index`.
fn put_frame(world: &mut World, at: u64, code: u64, previous: u64, index: u64) {
    world.image.words(at, &[code | 1, previous, 0, 0, 0, 0, 0, code + 72 + 2 * index, 0, 0]);
}

fn put_shim(world: &mut World, at: u64, previous: u64) {
    world.image.words(at, &[0x42, previous, 0, 0, 0, 0, 0, 0, 3 << 48, 0]);
}

/// The state of a thread whose innermost frame is `frame`.
fn put_thread(world: &mut World, at: u64, frame: u64, version: u64) {
    world.image.words(at, &[0, 0, 0, u64::from(TID), 0, version, frame]);
}

fn thread(state: u64) -> PyThread {
    PyThread {
        tid: TID,
        ns_tid: NsTid(TID),
        state: RemoteAddr(state),
        context: None,
        context_version: VERSION,
        running_loop: None,
    }
}

/// What a stack says, innermost first.
fn said(stack: &Stack) -> Vec<(&str, Option<u32>)> {
    stack.frames.iter().map(|frame| (frame.function(), frame.line)).collect()
}

/// A thread in `inner`, which `middle` has called, which `outer` has, through a frame of the interpreter.
struct Three {
    world: World,
    state: u64,
    codes: [u64; 3],
    frames: [u64; 3],
}

impl Three {
    fn new() -> Self {
        let mut world = World::new();
        let state = world.place();
        let codes = ["inner", "middle", "outer"].map(|name| code(&mut world, name));
        let frames = [0; 3].map(|_| world.place());
        let mut three = Self { world, state, codes, frames };
        three.put([1, 2, 3], VERSION);
        three
    }

    /// At these instructions, innermost first.
    fn put(&mut self, [inner, middle, outer]: [u64; 3], version: u64) {
        let Self { world, state, codes, frames } = self;
        let shim = 0xf0_0000;
        put_frame(world, frames[2], codes[2], 0, outer);
        put_shim(world, shim, frames[2]);
        put_frame(world, frames[1], codes[1], shim, middle);
        put_frame(world, frames[0], codes[0], frames[1], inner);
        put_thread(world, *state, frames[0], version);
    }

    fn image(&self) -> Image {
        self.world.image.clone()
    }

    fn read(&self, expected: Option<u64>) -> Option<Stack> {
        read(&self.world.objects(), &thread(self.state), &mut CodeCache::default(), expected)
    }

    /// What is read where each reading sees the next of these images, and the last one ever after.
    fn read_moving(&self, images: Vec<Image>, expected: Option<u64>) -> Option<Stack> {
        let begin = RemoteAddr(self.state + 32);
        let moving = Moving { begin, images, readings: Cell::new(0) };
        let objects = self.world.objects();
        let objects = objects.through(&moving);
        read(&objects, &thread(self.state), &mut CodeCache::default(), expected)
    }
}

/// A memory that is another at each reading.
struct Moving {
    /// Where a reading begins.
    begin: RemoteAddr,
    images: Vec<Image>,
    readings: Cell<usize>,
}

impl ReadMemory for Moving {
    fn read_exact(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        if addr == self.begin {
            self.readings.set(self.readings.get() + 1);
        }
        let index = self.readings.get().saturating_sub(1).min(self.images.len() - 1);
        self.images[index].read_exact(addr, buf)
    }
}

#[test]
fn a_stack_is_told_innermost_first_without_the_interpreter_s_frames() {
    let three = Three::new();
    let stack = three.read(Some(VERSION)).unwrap();
    assert_eq!(said(&stack), [("inner", Some(8)), ("middle", Some(9)), ("outer", Some(10))]);
    assert!(stack.is_complete);
    assert_eq!(stack.version, VERSION);
    assert_eq!(stack.frames[0].file(), "/app/agent.py");
    assert_eq!(stack.frames[0].origin(), Origin::User);
}

#[test]
fn a_thread_without_a_frame_has_an_empty_stack() {
    let mut three = Three::new();
    put_thread(&mut three.world, three.state, 0, VERSION);
    let none = Stack { frames: Vec::new(), is_complete: true, version: VERSION };
    assert_eq!(three.read(None), Some(none));
}

#[test]
fn only_the_thread_and_the_poll_that_were_asked_for_are_told_of() {
    let mut three = Three::new();
    assert_eq!(three.read(Some(VERSION + 1)), None, "another poll");
    let mut later = Three::new();
    later.put([1, 2, 3], VERSION + 1);
    // It ends between the readings and the last look.
    let images = [vec![three.image(); ALIKE + 1], vec![later.image()]].concat();
    assert_eq!(three.read_moving(images, Some(VERSION)), None);
    three.world.image.words(three.state + 24, &[u64::from(TID) + 1]);
    assert_eq!(three.read(None), None, "another thread");
}

#[test]
fn where_the_innermost_frame_moves_its_later_instruction_is_told() {
    let mut three = Three::new();
    let first = three.image();
    three.put([2, 2, 3], VERSION);
    let stack = three.read_moving(vec![first, three.image()], None).unwrap();
    assert_eq!(said(&stack), [("inner", Some(9)), ("middle", Some(9)), ("outer", Some(10))]);
    assert!(stack.is_complete, "no frame is missing");
}

/// Readings that alternate for ever.
fn alternate(images: [&Image; 2]) -> Vec<Image> {
    (0..=MAX_READINGS).map(|index| images[index % 2].clone()).collect()
}

#[test]
fn a_caller_that_moves_hides_what_it_called() {
    let mut three = Three::new();
    let first = three.image();
    three.put([1, 1, 3], VERSION);
    let images = alternate([&first, &three.image()]);
    let stack = three.read_moving(images, None).unwrap();
    assert!(!stack.is_complete);
    let [middle, outer] = said(&stack)[..] else { panic!("{stack:?}") };
    assert!(matches!(middle, ("middle", Some(8 | 9))));
    assert_eq!(outer, ("outer", Some(10)));
}

#[test]
fn other_code_in_the_place_of_a_frame_is_another_call() {
    let mut three = Three::new();
    let first = three.image();
    let other = code(&mut three.world, "other");
    put_frame(&mut three.world, three.frames[0], other, three.frames[1], 1);
    let images = alternate([&first, &three.image()]);
    let stack = three.read_moving(images, None).unwrap();
    assert_eq!(said(&stack), [("middle", Some(9)), ("outer", Some(10))]);
    assert!(!stack.is_complete);
    // It has come to rest meanwhile.
    let stack = three.read_moving(vec![first, three.image()], None).unwrap();
    assert_eq!(said(&stack)[0], ("other", Some(8)));
    assert!(stack.is_complete);
}

#[test]
fn a_frame_that_has_been_left_is_not_taken_for_the_outermost() {
    let mut three = Three::new();
    let whole = three.image();
    put_frame(&mut three.world, three.frames[0], three.codes[0], 0, 1);
    let left = three.image();
    // Most readings are torn.
    let moving = |index| if index % 3 == 0 { whole.clone() } else { left.clone() };
    let images = (0..=3 * MAX_READINGS).map(moving).collect();
    let stack = three.read_moving(images, None).unwrap();
    assert_eq!(said(&stack), [("inner", Some(8)), ("middle", Some(9)), ("outer", Some(10))]);
    assert!(!stack.is_complete, "it did not stand still");
}

#[test]
fn where_nothing_stands_still_nothing_is_told() {
    let mut three = Three::new();
    let mut images = Vec::new();
    for index in 0..=MAX_READINGS as u64 {
        let frame = 0xf1_0000 + 0x1000 * index;
        put_frame(&mut three.world, frame, three.codes[0], 0, 1);
        put_thread(&mut three.world, three.state, frame, VERSION);
        images.push(three.image());
    }
    assert_eq!(three.read_moving(images, None), None);
}

#[test]
fn one_reading_that_differs_is_enough_to_wait_for_more() {
    let mut three = Three::new();
    let first = three.image();
    three.put([1, 1, 3], VERSION);
    let second = three.image();
    let one_differs = |period: usize| {
        let image = |index| if index % period == 0 { second.clone() } else { first.clone() };
        let images = (1..=2 * MAX_READINGS).map(image).collect();
        three.read_moving(images, None).unwrap()
    };
    assert_eq!(said(&one_differs(ALIKE + 2))[0], ("inner", Some(8)));
    assert!(one_differs(ALIKE + 2).is_complete);
    assert_eq!(said(&one_differs(ALIKE - 1))[0].0, "middle");
}

#[test]
fn code_that_is_replaced_while_it_is_read_is_no_frame() {
    let mut three = Three::new();
    let first = three.image();
    let name = three.world.objects().memory.read_ptr(RemoteAddr(three.codes[1] + 32)).unwrap();
    three.world.image.put(name.0 + u64::from(three.world.layout.str_ascii_data), b"MIDDLE");
    let images = [vec![first; ALIKE], vec![three.image()]].concat();
    let stack = three.read_moving(images, None).unwrap();
    assert_eq!(said(&stack), [("outer", Some(10))]);
    assert!(!stack.is_complete);
}

#[test]
fn a_frame_object_that_nobody_refers_to_is_none() {
    let mut world = World::new();
    let frames = Frames {
        bytes: 80,
        code: 16,
        previous: 24,
        instruction: Instruction::Index { at: 56, unit: 2 },
        owner: None,
        ..LAYOUT.frames
    };
    world.lay_out(Layout { frames, ..LAYOUT.clone() });
    let code = code(&mut world, "f");
    let frame = world.object(0x42, &[code, 0, 0, 0, 0, u64::from(u32::MAX), 0, 0]);
    let read = |world: &World| FrameAt::read(&world.objects(), RemoteAddr(frame));
    let found = read(&world).unwrap();
    assert_eq!((found.code, found.previous, found.offset), (RemoteAddr(code), None, -2));
    world.image.words(frame, &[0]);
    assert_eq!(read(&world), None);
}

#[test]
fn chains_that_lead_in_circles_or_nowhere_end() {
    let mut three = Three::new();
    let [inner, _, outer] = three.frames;
    put_frame(&mut three.world, outer, three.codes[2], inner, 3);
    assert_eq!(three.read(None), None);
    // A circle of nothing but the interpreter's own.
    put_shim(&mut three.world, inner, inner);
    assert!(!three.read(None).unwrap().is_complete);
    for wild in [0xdead_0000, u64::MAX, 1] {
        put_frame(&mut three.world, inner, three.codes[0], wild, 1);
        assert_eq!(three.read(None), None, "{wild:#x}");
    }
    put_thread(&mut three.world, three.state, u64::MAX - 7, VERSION);
    assert_eq!(three.read(None), None);
}

#[test]
fn of_a_deep_recursion_the_innermost_frames_are_told() {
    let mut three = Three::new();
    let [_, _, mut previous] = three.frames;
    for index in 0..=MAX_FRAMES as u64 {
        let frame = 0xf1_0000 + 0x100 * index;
        put_frame(&mut three.world, frame, three.codes[0], previous, 1);
        previous = frame;
    }
    put_thread(&mut three.world, three.state, previous, VERSION);
    let stack = three.read(None).unwrap();
    assert_eq!((stack.frames.len(), stack.is_complete), (MAX_FRAMES, false));
}

#[test]
fn a_frame_whose_code_is_none_is_left_out_and_said() {
    let mut three = Three::new();
    let wild = three.world.object(0x42, &[0; 7]);
    put_frame(&mut three.world, three.frames[1], wild, three.frames[2], 1);
    let stack = three.read(None).unwrap();
    assert_eq!(said(&stack), [("inner", Some(8)), ("outer", Some(10))]);
    assert!(!stack.is_complete);
    // An instruction that is in no code of this size.
    let [inner, code] = [three.frames[0], three.codes[0]];
    three.world.image.words(inner, &[code, 0, 0, 0, 0, 0, 0, code + (1 << 40), 0, 0]);
    assert_eq!(three.read(None), None);
}

#[test]
fn code_of_the_interpreter_s_own_is_no_frame() {
    let mut three = Three::new();
    let name = three.world.str("__init__");
    let table = three.world.object(0x1100, &[1, 0, 0xfb, 0]);
    let own = three.world.object(CODE, &[name, name, name, 0, table, 0, 0]);
    put_frame(&mut three.world, three.frames[1], own, three.frames[2], 0);
    let stack = three.read(None).unwrap();
    assert_eq!(said(&stack), [("inner", Some(8)), ("outer", Some(10))]);
    assert!(stack.is_complete);
}
