/**
 * Memory of this process given back to the system. Owns how; does not know when that is a good idea.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { DescriptorAddon } from './addon.ts'

/**
 * Collects garbage, then returns what malloc holds free. Takes some milliseconds.
 * The collector is asked for at the first use and not by an option of the process: other V8 flags than those it was made with make V8
 * throw away the binary's code cache, which costs 20 MB and start-up time.
 */
export function createMemoryRelease (addon: Pick<DescriptorAddon, 'trimMemory'>): () => void {
  let collect: (() => void) | undefined
  return () => {
    collect ??= exposeCollector()
    collect()
    addon.trimMemory()
  }
}

function exposeCollector (): () => void {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as () => void
}
