/**
 * Waiting with an end. Owns deadlines on the monotonic clock; does not know what is waited for.
 */

/** Milliseconds of the monotonic clock. Never compare with Date. */
export const monotonicMs = (): number => performance.now()

/** Resolves after `ms`, or at once when `signal` aborts. Never rejects. */
export async function pause (ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true) return
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal?.addEventListener('abort', done, { once: true })
  })
}

/** The outcome of `work`, or what `late` makes when `ms` have passed first. The work itself is not stopped. */
export async function within<T, L> (ms: number, work: Promise<T>, late: () => L): Promise<T | L> {
  let timer: NodeJS.Timeout | undefined
  try {
    return await Promise.race([
      work,
      new Promise<L>((resolve, reject) => {
        timer = setTimeout(() => {
          try { resolve(late()) } catch (error) { reject(error instanceof Error ? error : new Error(String(error))) }
        }, ms)
      })
    ])
  } finally {
    clearTimeout(timer)
  }
}
