//! Threads, tasks and variables of a made-up interpreter.

use super::{
    fake::{CONTEXT, LAYOUT, NONE, World},
    *,
};
use crate::cpython::layout::{Tasks, ThreadId, validate};

fn tids(ids: &[u32]) -> Tids {
    ids.iter().map(|&id| (NsTid(id), id + 1000)).collect()
}

/// A type with this `tp_basicsize` and no base.
fn sized_type(world: &mut World, bytes: u64) -> u64 {
    let ty = world.place();
    world.image.words(ty + common::TYPE_BASICSIZE, &[bytes]);
    world.image.words(ty + common::TYPE_BASE, &[0]);
    ty
}

#[test]
fn a_variable_is_found_in_a_module_and_its_value_in_a_context() {
    let mut world = World::new();
    let (var, other) = (world.var("openrtc_session_id"), world.var("other"));
    let value = world.str("AJ_1");
    let context = world.context(var, value, 0, 0);
    let globals = world.names(&[("_other", other), ("_session_id", var), ("alias", var)]);
    let module = world.module(globals);
    let broken = world.module(0x42);
    let modules = world.names(&[("sys", module), ("broken", broken), ("none", NONE)]);
    world.interpreter(modules, &[]);
    let objects = world.objects();
    let found = var::find(&objects, &["openrtc_session_id"]).unwrap().remove(0);
    assert_eq!(found, [VarAt { addr: RemoteAddr(var), hash: 5 }]);
    let text = var::value(&objects, RemoteAddr(context), found[0]).unwrap();
    assert_eq!(text.as_ref().map(|text| text.chars().collect::<String>()).as_deref(), Some("AJ_1"));
    let missing = VarAt { addr: RemoteAddr(other), hash: 5 };
    assert_eq!(var::value(&objects, RemoteAddr(context), missing), Ok(None));
    let no_context = var::value(&objects, RemoteAddr(value), found[0]);
    assert_eq!(no_context, Err(Loss::ContextMalformed), "freed and reused");
    assert_eq!(var::find(&objects, &["nosuch"]), Ok(vec![Vec::new()]));
}

#[test]
fn a_variable_that_no_module_holds_is_found_in_a_context() {
    let mut world = World::new();
    let var = world.var("hidden");
    let value = world.str("x");
    let context = world.context(var, value, 0, 0);
    let modules = world.names(&[]);
    world.interpreter(modules, &[[0, 7, context, 1]]);
    let found = var::find(&world.objects(), &["hidden"]).unwrap().remove(0);
    assert_eq!(found, [VarAt { addr: RemoteAddr(var), hash: 5 }]);
}

#[test]
fn entered_contexts_are_listed_outermost_first() {
    let mut world = World::new();
    let own = world.context(1, 1, 0, 0);
    let outer = world.context(1, 1, own, 1);
    let inner = world.context(1, 1, outer, 1);
    let modules = world.names(&[]);
    world.interpreter(modules, &[[0, 7, inner, 9], [0, 8, own, 3]]);
    let objects = world.objects();
    let interp = thread::interpreters(&objects).unwrap()[0];
    let states = thread::states(&objects, interp).unwrap();
    let entered = |tid| {
        let state = states.iter().find(|state| state.ns_tid == NsTid(tid)).unwrap();
        thread::entered(&objects, state.at, NsTid(tid))
    };
    assert_eq!(entered(7), Some(Entered { contexts: vec![outer, inner], version: 9 }));
    assert_eq!(entered(8), Some(Entered { contexts: vec![], version: 3 }));
    assert_eq!(thread::entered(&objects, states[0].at, NsTid(99)), None, "another thread's");
}

#[test]
fn a_chain_of_contexts_in_a_circle_ends() {
    let mut world = World::new();
    let context = world.context(1, 1, 0, 1);
    world.image.words(context + 16, &[context]);
    let modules = world.names(&[]);
    world.interpreter(modules, &[[0, 7, context, 1]]);
    let objects = world.objects();
    let interp = thread::interpreters(&objects).unwrap()[0];
    let state = thread::states(&objects, interp).unwrap()[0];
    let entered = thread::entered(&objects, state.at, NsTid(7)).unwrap();
    assert_eq!(entered.contexts.len(), openrtc_common::poll::MAX_DEPTH);
}

#[test]
fn a_list_of_threads_in_a_circle_ends() {
    let mut world = World::new();
    let modules = world.names(&[]);
    world.interpreter(modules, &[[0, 7, 0, 1]]);
    let interp = thread::interpreters(&world.objects()).unwrap()[0];
    let state = thread::states(&world.objects(), interp).unwrap()[0].at;
    world.image.words(state.0, &[state.0]);
    let states = thread::states(&world.objects(), interp).unwrap();
    assert_eq!(states.len(), openrtc_common::thread::MAX_THREADS as usize);
}

#[test]
fn only_pending_tasks_are_listed() {
    let mut world = World::new();
    let context = world.object(CONTEXT, &[0; 4]);
    let task_type = sized_type(&mut world, 48);
    let pending = world.object(task_type, &[0, context]);
    let done = world.object(task_type, &[2, context]);
    let freed = world.object(0x42, &[0, context]);
    let set = world.set(&[(pending, 1), (done, 2), (freed, 3), (0x77_7777, 4)]);
    let globals = world.names(&[("Task", task_type), ("_scheduled_tasks", set)]);
    let module = world.module(globals);
    let modules = world.names(&[("_asyncio", module)]);
    world.interpreter(modules, &[]);
    let expected = TaskAt { task: RemoteAddr(pending), context: RemoteAddr(context) };
    assert_eq!(task::tasks(&world.objects()), Ok(vec![expected]));
    world.image.words(task_type + common::TYPE_BASICSIZE, &[56]);
    assert!(task::tasks(&world.objects()).is_err(), "another size");
}

/// A world with a ring of tasks, as 3.14 keeps them, through the thread state's word at 48.
fn ring_of(count: usize) -> (World, Vec<u64>, u64) {
    const NODE: u64 = 32;
    const HEAD: u64 = 48;
    let mut world = World::new();
    let tasks = Tasks::Lists { node: NODE, of_thread: HEAD, of_interpreter: 24 };
    world.lay_out(Layout { tasks, ..LAYOUT.clone() });
    let context = world.object(CONTEXT, &[0; 4]);
    let task_type = sized_type(&mut world, 48);
    let ring: Vec<u64> = (0..count).map(|_| world.object(task_type, &[0, context])).collect();
    let globals = world.names(&[("Task", task_type)]);
    let module = world.module(globals);
    let modules = world.names(&[("_asyncio", module)]);
    world.interpreter(modules, &[[0, 7, 0, 1]]);
    let objects = world.objects();
    let interp = thread::interpreters(&objects).unwrap()[0];
    let head = thread::states(&objects, interp).unwrap()[0].at.0 + HEAD;
    world.image.words(interp.0 + 24, &[interp.0 + 24]);
    let mut before = head;
    for task in &ring {
        world.image.words(before, &[task + NODE]);
        before = task + NODE;
    }
    world.image.words(before, &[head]);
    (world, ring, NODE)
}

#[test]
fn a_ring_of_tasks_is_walked_once_around() {
    let (world, ring, _) = ring_of(3);
    let found = task::tasks(&world.objects()).unwrap();
    assert_eq!(found.iter().map(|found| found.task.0).collect::<Vec<_>>(), ring);
    assert_eq!(task::tasks(&ring_of(0).0.objects()), Ok(Vec::new()));
}

#[test]
fn a_ring_that_breaks_under_the_walk_is_no_result() {
    let (mut world, ring, node) = ring_of(3);
    // Freed, and something else in its place.
    world.image.words(ring[1], &[1, 0x42]);
    let expected = "_asyncio.Task";
    let broken = WalkError::Not { expected, addr: RemoteAddr(ring[1]) };
    assert_eq!(task::tasks(&world.objects()), Err(broken));
    // Led into a ring of its own, which never comes back to where it began.
    let (mut world, ring, _) = ring_of(3);
    world.image.words(ring[2] + node, &[ring[1] + node]);
    let endless = task::tasks(&world.objects()).unwrap_err();
    assert!(matches!(endless, WalkError::TooLarge { what: "ring of tasks", .. }), "{endless}");
}

#[test]
fn threads_without_a_native_id_are_known_by_their_descriptors() {
    let mut world = World::new();
    world.lay_out(Layout { thread_id: ThreadId::Pthread { at: 24 }, ..LAYOUT.clone() });
    let (glibc, musl, none) = (world.place(), world.place(), world.place());
    world.image.words(glibc, &[glibc, 0x55, glibc]);
    world.image.words(glibc + 720, &[77]);
    world.image.words(musl, &[musl, 0x55, 0x66]);
    world.image.words(musl + 48, &[78]);
    world.image.words(none, &[0x42]);
    let modules = world.names(&[]);
    let threads = [glibc, musl, none].map(|descriptor| [0, descriptor, 0, 1]);
    world.interpreter(modules, &threads);
    let objects = world.objects();
    let interp = thread::interpreters(&objects).unwrap()[0];
    let states = thread::states(&objects, interp).unwrap();
    let ids: Vec<_> = states.iter().rev().map(|state| state.ns_tid).collect();
    assert_eq!(ids, [NsTid(77), NsTid(78), NsTid(0)]);
}

#[test]
fn a_version_that_is_not_exported_is_what_sys_says_through_its_own_row() {
    for row in layout::without_exported_version() {
        let mut world = World::new();
        world.lay_out(row.clone());
        let word = u64::from(row.version.0) << 24 | u64::from(row.version.1) << 16 | 0x12f0;
        let number = world.object(0x42, &[1, word]);
        let names = world.sized_names(&[("hexversion", number)]);
        let sys = world.module(names);
        let modules = world.sized_names(&[("sys", sys)]);
        let interp = world.place();
        world.image.words(world.addresses.runtime.0 + row.interpreters_head, &[interp]);
        world.image.words(interp, &[0, 0]);
        world.image.words(interp + row.interp_modules, &[modules]);
        let found = unexported_version(&world.image, &world.addresses);
        assert_eq!(found, Some(Version(word as u32)));
        world.image.words(number + 16, &[2]);
        assert_eq!(unexported_version(&world.image, &world.addresses), None, "no such number");
    }
}

#[test]
fn a_process_without_asyncio_has_no_tasks() {
    let mut world = World::new();
    let modules = world.names(&[]);
    world.interpreter(modules, &[]);
    assert_eq!(task::tasks(&world.objects()), Ok(Vec::new()));
}

/// A world whose types have the sizes that validation wants.
fn valid_world(threads: impl FnOnce(&mut World) -> Vec<[u64; 4]>) -> World {
    let mut world = World::new();
    let sizes = [
        common::CONTEXT_BYTES,
        common::VAR_BYTES,
        common::TOKEN_BYTES,
        world.layout.str_bytes,
        common::DICT_BYTES,
        common::SET_BYTES,
        LAYOUT.module_bytes,
        LAYOUT.code.bytes,
        LAYOUT.coroutines.bytes,
    ];
    world.addresses.context_token_type = RemoteAddr(0xc00);
    let at = world.addresses;
    let types = [
        at.context_type,
        at.context_var_type,
        at.context_token_type,
        at.str_type,
        at.dict_type,
        at.set_type,
        at.module_type,
        at.code_type,
        at.coroutine_type,
    ];
    for (ty, bytes) in types.into_iter().zip(sizes) {
        world.image.words(ty.0 + common::TYPE_BASICSIZE, &[bytes]);
    }
    let modules = world.names(&[("sys", 1)]);
    let threads = threads(&mut world);
    world.interpreter(modules, &threads);
    world
}

fn refusal(world: &World, tids: &Tids) -> String {
    validate(&world.objects(), tids).unwrap_err().to_string()
}

#[test]
fn a_layout_is_proved_or_refused() {
    let world = valid_world(|_| vec![[0, 7, 0, 1]]);
    assert_eq!(validate(&world.objects(), &tids(&[7])), Ok(()));
    assert!(refusal(&world, &tids(&[8])).ends_with("is one of the process's"));

    let mut resized = valid_world(|_| vec![[0, 7, 0, 1]]);
    resized.image.words(resized.addresses.context_type.0 + common::TYPE_BASICSIZE, &[56]);
    assert!(refusal(&resized, &tids(&[7])).ends_with("PyContext_Type makes 56 bytes, expected 48"));

    let no_context = valid_world(|world| vec![[0, 7, world.place() - 0x1000, 1]]);
    assert!(refusal(&no_context, &tids(&[7])).contains("a thread's context"));

    let empty = valid_world(|_| Vec::new());
    assert!(refusal(&empty, &tids(&[7])).ends_with("is one of the process's"));
}
