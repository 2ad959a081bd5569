//! Python objects made by hand in a memory image, for the host tests of the walks.

use openrtc_common::{config::PyLayout, hamt::NodeTypes};

use super::{
    Addresses,
    layout::{
        Awaiting, Code, CoroutineFrame, Coroutines, CurrentFrame, Frames, Gil, GilState,
        Instruction, Keys, Layout, LineTable, RunningLoop, StackEnd, Tasks, ThreadId, Values,
    },
    memory::{RemoteAddr, image::Image},
    object::Objects,
};

pub const STR: u64 = 0x100;
pub const INT: u64 = 0x180;
pub const DICT: u64 = 0x200;
pub const SET: u64 = 0x300;
pub const MODULE: u64 = 0x400;
pub const CONTEXT: u64 = 0x500;
pub const VAR: u64 = 0x600;
pub const NONE: u64 = 0x700;
pub const BITMAP: u64 = 0x800;
pub const ARRAY: u64 = 0x900;
pub const COLLISION: u64 = 0xa00;
pub const CODE: u64 = 0xd00;
pub const COROUTINE: u64 = 0xe00;
pub const GENERATOR: u64 = 0xf00;
pub const ASYNC_GENERATOR: u64 = 0x1000;
pub const RUNTIME: u64 = 0xb000;

/// A layout as a test wants it; offsets are small so that images stay small.
pub static LAYOUT: Layout = Layout {
    version: (3, 11),
    source: "made up",
    interpreters_head: 0,
    interp_next: 0,
    interp_threads: 8,
    interp_modules: 16,
    thread_next: 0,
    thread_interp: 8,
    thread_dict: 16,
    thread_id: ThreadId::Native { at: 24 },
    thread_context: 32,
    threads_in_context: false,
    running_loop: RunningLoop::InDict,
    task_bytes: 48,
    task_state: 16,
    task_name: 16,
    task_context: 24,
    task_coro: 32,
    task_fut_waiter: 40,
    tasks: Tasks::Sets(&["_scheduled_tasks"]),
    module_bytes: 56,
    str_bytes: 64,
    str_ascii_data: 40,
    str_wide_data: 56,
    keys: Keys::Log2,
    values: Values::Tagged,
    first_value: 0,
    type_cached_keys: 880,
    frames: Frames {
        bytes: 80,
        current: CurrentFrame::InThread { at: 48 },
        code: 0,
        previous: 8,
        instruction: Instruction::Pointer { at: 56, bytecode: 72 },
        owner: Some(70),
    },
    code: Code {
        bytes: 72,
        filename: 16,
        name: 24,
        qualname: Some(32),
        first_line: 40,
        lines: LineTable::Locations { at: 48 },
    },
    coroutines: Coroutines {
        bytes: 112,
        frame: CoroutineFrame::Embedded { at: 32 },
        awaiting: Awaiting::InCoroutine { at: 24, value: -1 },
        stack: StackEnd::Index { locals: 72, at: 64 },
        awaited: 1,
    },
    gil: Gil { state: GilState::Pointed { at: 24 }, holder: 8, locked: 16 },
    runtime_debug: &[],
    asyncio_debug: &[],
};

/// An image, and where the next object goes.
pub struct World {
    pub image: Image,
    pub addresses: Addresses,
    pub shared: PyLayout,
    pub layout: &'static Layout,
    next: u64,
}

impl World {
    pub fn new() -> Self {
        let nodes = NodeTypes { bitmap: BITMAP, array: ARRAY, collision: COLLISION };
        let addresses = Addresses {
            runtime: RemoteAddr(RUNTIME),
            none: RemoteAddr(NONE),
            str_type: RemoteAddr(STR),
            int_type: RemoteAddr(INT),
            dict_type: RemoteAddr(DICT),
            set_type: RemoteAddr(SET),
            module_type: RemoteAddr(MODULE),
            context_type: RemoteAddr(CONTEXT),
            context_var_type: RemoteAddr(VAR),
            context_token_type: RemoteAddr(0),
            code_type: RemoteAddr(CODE),
            coroutine_type: RemoteAddr(COROUTINE),
            generator_type: RemoteAddr(GENERATOR),
            async_generator_type: RemoteAddr(ASYNC_GENERATOR),
            nodes,
        };
        let shared = super::shared_layout(&LAYOUT, &addresses);
        let mut world =
            Self { image: Image::default(), addresses, shared, layout: &LAYOUT, next: 0x10_0000 };
        for ty in [STR, DICT, SET, MODULE, CONTEXT, VAR] {
            world.image.words(ty + 256, &[0]);
        }
        world
    }

    /// Goes by another layout from now on.
    pub fn lay_out(&mut self, layout: Layout) {
        self.layout = Box::leak(Box::new(layout));
        self.shared = super::shared_layout(self.layout, &self.addresses);
    }

    pub fn objects(&self) -> Objects<'_, Image> {
        Objects {
            memory: &self.image,
            layout: self.layout,
            addresses: &self.addresses,
            shared: &self.shared,
        }
    }

    /// Room for an object, with some before it.
    pub fn place(&mut self) -> u64 {
        self.next += 0x1000;
        self.next
    }

    pub fn object(&mut self, ty: u64, fields: &[u64]) -> u64 {
        let at = self.place();
        self.image.words(at, &[1, ty]);
        self.image.words(at + 16, fields);
        at
    }

    /// An ASCII `str`.
    pub fn str(&mut self, text: &str) -> u64 {
        let at = self.object(STR, &[text.len() as u64, 0, 0x64]);
        let data = u64::from(self.layout.str_ascii_data);
        self.image.put(at + data, text.as_bytes());
        at
    }

    /// A key table; general ones hold the hash too.
    pub fn keys(&mut self, general: bool, entries: &[(u64, u64)]) -> u64 {
        let at = self.place();
        let kind = u64::from(!general) << 16;
        // dk_log2_size 3, dk_log2_index_bytes 3
        self.image.words(at, &[1, 3 | 3 << 8 | kind, 0, entries.len() as u64, 0]);
        let words: Vec<u64> = entries
            .iter()
            .flat_map(|&(key, value)| if general { vec![7, key, value] } else { vec![key, value] })
            .collect();
        self.image.words(at + 32 + 8, &words);
        at
    }

    pub fn dict(&mut self, entries: &[(u64, u64)]) -> u64 {
        let keys = self.keys(false, entries);
        self.object(DICT, &[entries.len() as u64, 0, keys, 0])
    }

    /// A dict of names with a table of keys as 3.9 and 3.10 have it, of 8 places.
    pub fn sized_names(&mut self, entries: &[(&str, u64)]) -> u64 {
        let entries: Vec<_> = entries.iter().map(|(name, at)| (self.str(name), *at)).collect();
        let keys = self.place();
        self.image.words(keys, &[1, 8, 0, 0, entries.len() as u64, 0]);
        let words: Vec<u64> = entries.iter().flat_map(|&(key, at)| [7, key, at]).collect();
        self.image.words(keys + 40 + 8, &words);
        self.object(DICT, &[entries.len() as u64, 0, keys, 0])
    }

    pub fn names(&mut self, entries: &[(&str, u64)]) -> u64 {
        let entries: Vec<_> = entries.iter().map(|(name, at)| (self.str(name), *at)).collect();
        self.dict(&entries)
    }

    /// A `set` from its places.
    pub fn set(&mut self, places: &[(u64, u64)]) -> u64 {
        assert!(places.len().is_power_of_two());
        let table = self.place();
        let words: Vec<u64> = places.iter().flat_map(|&(key, hash)| [key, hash]).collect();
        self.image.words(table, &words);
        self.object(SET, &[0, 0, places.len() as u64 - 1, table])
    }

    /// A `Context` that holds one variable, in slot 5 of a bitmap node.
    pub fn context(&mut self, var: u64, value: u64, previous: u64, entered: u64) -> u64 {
        let node = self.object(BITMAP, &[2, 1 << 5, var, value]);
        let map = self.object(0, &[node]);
        self.object(CONTEXT, &[previous, map, 0, entered])
    }

    /// A `ContextVar` whose folded hash picks slot 5.
    pub fn var(&mut self, name: &str) -> u64 {
        let name = self.str(name);
        self.object(VAR, &[name, 0, 0, 0, 0, 5])
    }

    /// One interpreter with these modules and thread states (dict, tid, context, version).
    pub fn interpreter(&mut self, modules: u64, threads: &[[u64; 4]]) {
        let interp = self.place();
        self.image.words(RUNTIME, &[interp]);
        let mut next = 0;
        for &[dict, tid, context, version] in threads {
            let state = self.place();
            self.image.words(state, &[next, interp, dict, tid, context, version]);
            next = state;
        }
        self.image.words(interp, &[0, next, modules]);
    }

    pub fn module(&mut self, dict: u64) -> u64 {
        self.object(MODULE, &[dict])
    }
}
