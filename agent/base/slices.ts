/**
 * Long work in short pieces. Owns the pauses, in which whoever else waits for the only thread has a turn; does not know
 * the work.
 */

/** Calls `work` with up to `size` items at a time. */
export async function inSlices<T> (
  items: readonly T[],
  size: number,
  work: (slice: readonly T[]) => void
): Promise<void> {
  for (let at = 0; at < items.length; at += size) {
    if (at > 0) await new Promise<void>((resolve) => { setImmediate(resolve) })
    work(items.slice(at, at + size))
  }
}
