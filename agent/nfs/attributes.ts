/**
 * NFSv3 attributes ↔ the neutral ones of agent/fs.
 *
 * Owns the change token, which version 3 does not have: it is made of ctime, mtime and size, the three things the
 * kernel's client compares too. Does not cache anything.
 */
import type { AttributeChanges, Attributes, Change, ChangeToken, RemoteHandle, WriteVerifier } from '../fs/backend.ts'
import type { Nfs3Attributes, SetAttributes, WccAttributes, WccData } from '../../proto/nfs3/types.ts'

/** The server's bytes are opaque to everybody else. */
export const toRemoteHandle = (latin1: string): RemoteHandle => latin1 as RemoteHandle
export const toWriteVerifier = (latin1: string): WriteVerifier => latin1 as WriteVerifier

const rotate = (word: number, bits: number): number => (word << bits) | (word >>> (32 - bits))

/**
 * Five values (about 180 bits) into 64: two 32-bit lanes, each a bijection of every single input word, so a difference
 * in one value always shows, and differences in several cancel out once in 2^64.
 */
function newTokenMaker (): (source: WccAttributes) => ChangeToken {
  const lanes = new Uint32Array(2)
  const joined = new BigUint64Array(lanes.buffer)
  return ({ ctimeSeconds, ctimeNanoseconds, mtimeSeconds, mtimeNanoseconds, sizeBytes }) => {
    const sizeHigh = Math.floor(sizeBytes / 0x1_0000_0000)
    let a = 0x2545f491
    let b = 0x1b873593
    a = rotate(Math.imul(a ^ ctimeSeconds, 0x9e3779b1), 13)
    b = rotate(Math.imul(b + ctimeSeconds | 0, 0x85ebca77), 17)
    a = rotate(Math.imul(a ^ ctimeNanoseconds, 0x9e3779b1), 13)
    b = rotate(Math.imul(b + ctimeNanoseconds | 0, 0x85ebca77), 17)
    a = rotate(Math.imul(a ^ mtimeSeconds, 0x9e3779b1), 13)
    b = rotate(Math.imul(b + mtimeSeconds | 0, 0x85ebca77), 17)
    a = rotate(Math.imul(a ^ mtimeNanoseconds, 0x9e3779b1), 13)
    b = rotate(Math.imul(b + mtimeNanoseconds | 0, 0x85ebca77), 17)
    a = rotate(Math.imul(a ^ sizeHigh, 0x9e3779b1), 13)
    b = rotate(Math.imul(b + sizeHigh | 0, 0x85ebca77), 17)
    a = rotate(Math.imul(a ^ (sizeBytes >>> 0), 0x9e3779b1), 13)
    b = rotate(Math.imul(b + (sizeBytes >>> 0) | 0, 0x85ebca77), 17)
    lanes[0] = a
    lanes[1] = b
    return (joined[0] ?? 0n) as ChangeToken
  }
}

export const changeTokenOf = newTokenMaker()

export function toAttributes (from: Nfs3Attributes): Attributes {
  return {
    kind: from.type,
    mode: from.mode,
    nlink: from.nlink,
    uid: from.uid,
    gid: from.gid,
    sizeBytes: from.sizeBytes,
    usedBytes: from.usedBytes,
    rdevMajor: from.rdevMajor,
    rdevMinor: from.rdevMinor,
    fsid: from.fsid,
    fileid: from.fileid,
    atimeSeconds: from.atimeSeconds,
    atimeNanoseconds: from.atimeNanoseconds,
    mtimeSeconds: from.mtimeSeconds,
    mtimeNanoseconds: from.mtimeNanoseconds,
    ctimeSeconds: from.ctimeSeconds,
    ctimeNanoseconds: from.ctimeNanoseconds,
    change: changeTokenOf(from)
  }
}

export const toOptionalAttributes = (from: Nfs3Attributes | undefined): Attributes | undefined =>
  from === undefined ? undefined : toAttributes(from)

export function toChange ({ before, after }: WccData): Change {
  return {
    before: before === undefined ? undefined : changeTokenOf(before), beforeData: before,
    after: toOptionalAttributes(after)
  }
}

export function toSetAttributes ({ mode, uid, gid, sizeBytes, atime, mtime }: AttributeChanges): SetAttributes {
  return { mode, uid, gid, sizeBytes, atime, mtime }
}
