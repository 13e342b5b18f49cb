/**
 * Memory of this process: how far its heap may run ahead of what lives in it, and how memory is given back to the
 * system. Owns how; does not know when that is a good idea.
 */
import { availableParallelism, freemem } from 'node:os'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { DescriptorAddon } from './addon.ts'

/** How many processes of that size may begin at once: one for each CPU, and no more than fit into half of what is
 * free. */
export function parallelWork (bytesEach: number): number {
  return Math.max(1, Math.min(availableParallelism(), Math.floor(freemem() / 2 / bytesEach)))
}

/**
 * By its own rules V8 lets a heap of 20 MB of living objects grow past 190 MB before it collects: it sees the machine's
 * memory, not the share of it that one volume's session should take. Young objects get the space they start with
 * (kernel requests live for milliseconds, and space for more only delays their collection), old ones up to three times
 * what lives. Measured with random writes of 4 KiB: peak resident memory 350 → 240 MB, a tenth more time of the
 * processor. Both are read at every collection, so they may be set while the process runs; `createMemoryRelease` says
 * why that is needed.
 */
export function keepHeapSmall (growingPercent = 200): void {
  setFlagsFromString('--semi-space-growth-factor=1')
  setFlagsFromString(`--heap-growing-percent=${growingPercent}`)
}

/**
 * Collects garbage, then returns what malloc holds free. Takes some milliseconds.
 * The collector is asked for at the first use and not by an option of the process: other V8 flags than those it was
 * made with make V8 throw away the binary's code cache, which costs 20 MB and start-up time.
 */
export function createMemoryRelease (addon: Pick<DescriptorAddon, 'trimMemory'>): () => void {
  let collect: (() => void) | undefined
  return () => {
    collect ??= exposeCollector()
    collect()
    // Measured after 128 x 1 MiB of writes: one collection leaves a session at 145 MB, a second one directly after it
    // at 85.
    collect()
    addon.trimMemory()
  }
}

function exposeCollector (): () => void {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as () => void
}
