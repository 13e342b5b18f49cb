/**
 * How far the kernel should read ahead of a program: as far as the way to the server is long.
 * Owns the choice and its measurement. Does not know who tells the kernel.
 */
import { mebibyteBytes, readAheadBytesMax, readAheadBytesMin } from '../base/limits.ts'
import type { NfsClient } from './client.ts'

/** One window arrives per round trip, so this is the rate of one reader that distance alone never limits: 2 GB/s up to
 * 16 ms. */
const bytesPerMs = 2 * mebibyteBytes
/** A server that is slow to answer now is no reason to mount later. */
const answerMs = 500
const attempts = 3

export function readAheadFor (roundTripMs: number): number {
  const wanted = Math.ceil(roundTripMs * bytesPerMs / mebibyteBytes) * mebibyteBytes
  return Math.min(readAheadBytesMax, Math.max(readAheadBytesMin, wanted))
}

/** The shortest of some answers in ms: what is above it is work and waiting, not distance. 0 when there is none. */
export async function measureRoundTrip (client: Pick<NfsClient, 'probe'>): Promise<number> {
  let shortest = Infinity
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const { ok, ms } = await client.probe(answerMs)
    if (!ok) break
    shortest = Math.min(shortest, ms)
  }
  return Number.isFinite(shortest) ? shortest : 0
}
