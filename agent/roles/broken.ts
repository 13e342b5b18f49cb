/**
 * What fails in a session's process with nobody to await it: a write-back in the background, a timer.
 *
 * Owns that it is heard at all. It could be any part of what the session holds in memory, so it ends the session as a
 * broken invariant does (ARCHITECTURE). Not for the agent, which goes on.
 */
export function untilBroken (): AbortSignal {
  const broken = new AbortController()
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => { broken.abort(error) })
  }
  return broken.signal
}
