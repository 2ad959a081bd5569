//! Lets the shared structs cross the boundary as aya asks for it.

/// A shared struct as a map's key or value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Wire<T>(pub T);

// SAFETY: `bytemuck::Pod` forbids padding and any invalid bit pattern, which is what aya's `Pod`
// asks for, at compile time.
unsafe impl<T: bytemuck::Pod> aya::Pod for Wire<T> {}
