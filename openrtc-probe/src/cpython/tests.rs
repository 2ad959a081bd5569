//! Threads, tasks and variables of a made-up interpreter.

use super::{
    fake::{CONTEXT, NONE, World},
    *,
};
use crate::cpython::layout::validate;

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
    let found = var::find(&objects, "openrtc_session_id").unwrap();
    assert_eq!(found, [VarAt { addr: RemoteAddr(var), hash: 5 }]);
    let text = var::value(&objects, RemoteAddr(context), found[0]).unwrap();
    assert_eq!(text.as_ref().map(|text| text.chars().collect::<String>()).as_deref(), Some("AJ_1"));
    let missing = VarAt { addr: RemoteAddr(other), hash: 5 };
    assert_eq!(var::value(&objects, RemoteAddr(context), missing), Ok(None));
    let no_context = var::value(&objects, RemoteAddr(value), found[0]);
    assert_eq!(no_context, Err(Loss::ContextMalformed), "freed and reused");
    assert_eq!(var::find(&objects, "nosuch"), Ok(Vec::new()));
}

#[test]
fn a_variable_that_no_module_holds_is_found_in_a_context() {
    let mut world = World::new();
    let var = world.var("hidden");
    let value = world.str("x");
    let context = world.context(var, value, 0, 0);
    let modules = world.names(&[]);
    world.interpreter(modules, &[[0, 7, context, 1]]);
    let found = var::find(&world.objects(), "hidden").unwrap();
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
        common::MODULE_BYTES,
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
