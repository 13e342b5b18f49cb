import test from 'ava'
import type { ArenaBlock } from '../../../../../agent/fs/written/arena.ts'
import { MemoryArena } from '../../../../../agent/fs/written/memory-arena.ts'

function acquire (arena: MemoryArena, count: number): ArenaBlock[] {
  return Array.from({ length: count }, () => {
    const block = arena.acquire()
    if (block === undefined) throw new Error('the arena is full')
    return block
  })
}

function release (arena: MemoryArena, blocks: readonly ArenaBlock[]): void {
  for (const block of blocks) arena.release(block)
}

test('a stream that fills the arena again and again allocates nothing new', (t) => {
  const arena = new MemoryArena(64 * 1024, 1024)
  const first = acquire(arena, 64)
  t.is(arena.acquire(), undefined)
  const ids = new Set(first.map(({ id }) => id))
  release(arena, first)
  t.is(arena.shrink(), 64 * 1024)
  t.true(acquire(arena, 64).every(({ id }) => ids.has(id)))
})

test('what was not used since the last look is given back, and what was used is kept', (t) => {
  const arena = new MemoryArena(64 * 1024, 1024)
  release(arena, acquire(arena, 40))
  t.is(arena.shrink(), 40 * 1024)
  const [held, ...rest] = acquire(arena, 10)
  release(arena, rest)
  t.is(arena.shrink(), 9 * 1024, 'ten were in use at once, one still is')
  t.is(arena.shrink(), 0)
  t.is(arena.usedBytes, 1024)
  if (held !== undefined) arena.release(held)
  t.is(arena.shrink(), 1024)
  t.is(arena.shrink(), 0)
})
