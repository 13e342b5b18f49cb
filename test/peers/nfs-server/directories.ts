/**
 * READDIR and READDIRPLUS, RFC 1813 sections 3.3.16 and 3.3.17.
 *
 * Owns cookies: the cookie of an entry is a 63-bit hash of its name and entries are listed in its order, so a cookie
 * stays good while others come and go, and uses the bits above 2^53 that a careless client loses. Listings are kept
 * while the folder is unchanged.
 */
import { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { XdrWriter } from '../../../proto/xdr/writer.ts'
import type { XdrReader } from '../../../proto/xdr/reader.ts'
import { encodePostOp } from './attributes.ts'
import { findArgument, requireFolder } from './objects.ts'
import { fileHandleBytesMax, nameBytesMax, type Answer, type Call, type Procedure } from './procedure.ts'
import { NfsFailure } from './status.ts'
import { toPath, type Found } from './tree.ts'

interface Listed {
  readonly name: string
  readonly cookie: bigint
}

interface Listing {
  readonly changedNs: bigint
  readonly entries: readonly Listed[]
}

const listingsMax = 64

/** By object key; a WeakMap on the tree keeps servers apart. */
const listings = new WeakMap<object, Map<string, Listing>>()

/** 1 and 2 belong to `.` and `..`. */
const cookieOf = (name: string): bigint =>
  (createHash('sha1').update(name, 'latin1').digest().readBigUInt64BE(0) | 4n) & 0x7fff_ffff_ffff_ffffn

function listingOf (call: Call, folder: Found): readonly Listed[] {
  const kept = listings.get(call.tree) ?? new Map<string, Listing>()
  listings.set(call.tree, kept)
  const { key } = folder.object
  const known = kept.get(key)
  if (known !== undefined && known.changedNs === folder.stats.mtimeNs) return known.entries
  const names = readdirSync(toPath(folder.path), { encoding: 'buffer' }).map((name) => name.toString('latin1'))
  const entries = names.map((name) => ({ name, cookie: cookieOf(name) })).sort((a, b) => a.cookie < b.cookie ? -1 : 1)
  const all = [{ name: '.', cookie: 1n }, { name: '..', cookie: 2n }, ...entries]
  // A folder that changed within the clock's granularity could change again unseen: such a listing is not kept.
  if (BigInt(Date.now()) * 1_000_000n - folder.stats.mtimeNs > 20_000_000n) {
    kept.set(key, { changedNs: folder.stats.mtimeNs, entries: all })
  }
  const oldest = kept.keys().next().value
  if (kept.size > listingsMax && oldest !== undefined) kept.delete(oldest)
  return all
}

/** Index of the first entry after a cookie. */
function indexAfter (entries: readonly Listed[], cookie: bigint): number {
  let [low, high] = [0, entries.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((entries[middle] as Listed).cookie <= cookie) low = middle + 1
    else high = middle
  }
  return low
}

const verifier = Buffer.alloc(8)

const objectOf = (call: Call, folder: Found, name: string): Found | undefined => {
  if (name === '.') return folder
  if (name === '..') return call.tree.parentOf(folder)
  try {
    return call.tree.child(folder, name)
  } catch {
    return undefined
  }
}

function list (input: XdrReader, call: Call, isPlus: boolean): Answer {
  const folder = findArgument(input, call)
  requireFolder(folder)
  const cookie = input.uint64()
  const given = input.fixed(8)
  if (cookie !== 0n && !given.equals(verifier)) throw new NfsFailure('BAD_COOKIE')
  const namesMax = isPlus ? input.uint32() : Infinity
  const bytesMax = Math.min(input.uint32(), call.offer.directoryBytesMax)
  const entries = listingOf(call, folder)
  const body = new XdrWriter(16_384)
  let index = indexAfter(entries, cookie)
  const first = index
  // Status, attributes, verifier, the end of the list and eof come on top of the entries.
  for (let [bytes, nameBytes] = [128, 128]; index < entries.length; index++) {
    const entry = entries[index] as Listed
    const padded = (entry.name.length + 3) & ~3
    nameBytes += 24 + padded
    bytes += 24 + padded + (isPlus ? 4 + 84 + 4 + 4 + 20 : 0)
    if (bytes > bytesMax || nameBytes > namesMax) break
    const found = objectOf(call, folder, entry.name)
    body.bool(true)
    body.uint64(found?.stats.ino ?? 0n)
    body.latin1(entry.name, nameBytesMax)
    body.uint64(entry.cookie)
    if (!isPlus) continue
    encodePostOp(body, found?.stats)
    body.optional(found?.object.handle, (inner, handle) => { inner.opaque(handle, fileHandleBytesMax) })
  }
  if (index === first && index < entries.length) throw new NfsFailure('TOOSMALL')
  return (out) => {
    encodePostOp(out, folder.stats)
    out.fixed(verifier)
    for (const part of body.finish()) out.fixed(part)
    out.bool(false)
    out.bool(index === entries.length)
  }
}

export const directoryProcedures = {
  READDIR: { number: 16, failWords: 1, run: (input, call) => list(input, call, false) },
  READDIRPLUS: { number: 17, failWords: 1, run: (input, call) => list(input, call, true) }
} as const satisfies Record<string, Procedure>
