/**
 * Procedures that change folders: CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR, RENAME, LINK (RFC 1813 sections 3.3.8
 * to 3.3.15).
 *
 * Owns their grammar and the ownership of what they make: the caller's uid, and the caller's gid or a setgid folder's.
 * Permissions are not enforced; the server acts as the user that runs it.
 */
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync
} from 'node:fs'
import process from 'node:process'
import type { XdrReader } from '../../../proto/xdr/reader.ts'
import { applyChange, decodeChange, encodePostOp, encodeWcc, type AttributeChange } from './attributes.ts'
import { findArgument, nameArgument, requireFolder } from './objects.ts'
import { fileHandleBytesMax, pathBytesMax, type Answer, type Call, type Procedure } from './procedure.ts'
import { NfsFailure } from './status.ts'
import { toPath, type Found } from './tree.ts'

const noChange: AttributeChange = {
  mode: undefined, uid: undefined, gid: undefined, size: undefined, atime: undefined, mtime: undefined
}

interface Place {
  readonly parent: Found
  readonly name: string
  readonly path: string
}

/** diropargs3 of a name to be made or removed: `.` and `..` are never either. */
function placeArgument (input: XdrReader, call: Call, dots: 'EXIST' | 'INVAL'): Place {
  const parent = findArgument(input, call)
  const name = nameArgument(input)
  requireFolder(parent)
  if (name === '.' || name === '..') throw new NfsFailure(dots)
  return { parent, name, path: `${parent.path}/${name}` }
}

const again = (call: Call, found: Found): Found => call.tree.find(found.object.handle)

/** Gives a new object its owner and attributes and describes it: post_op_fh3, post_op_attr, wcc_data of the folder. */
function made (
  call: Call,
  { parent, name, path }: Place,
  change: AttributeChange,
  defaultMode: number | undefined
): Answer {
  const file = toPath(path)
  if (process.geteuid?.() === 0) {
    const isSetgid = (Number(parent.stats.mode) & 0o2000) !== 0
    lchownSync(
      file,
      change.uid ?? call.credential.uid,
      change.gid ?? (isSetgid ? Number(parent.stats.gid) : call.credential.gid)
    )
  }
  const inherited = (Number(parent.stats.mode) & 0o2000) !== 0 && lstatSync(file).isDirectory() ? 0o2000 : 0
  const mode = change.mode ?? defaultMode
  applyChange(call.tree.child(parent, name), {
    ...change, uid: undefined, gid: undefined, mode: mode === undefined ? undefined : mode | inherited
  })
  return described(call, parent, name)
}

function described (call: Call, parent: Found, name: string): Answer {
  const found = call.tree.child(parent, name)
  const after = again(call, parent).stats
  return (out) => {
    out.optional(found.object.handle, (inner, handle) => { inner.opaque(handle, fileHandleBytesMax) })
    encodePostOp(out, found.stats)
    encodeWcc(out, parent.stats, after)
  }
}

/** createmode3. */
const UNCHECKED = 0
const EXCLUSIVE = 2

function create (input: XdrReader, call: Call): Answer {
  const place = placeArgument(input, call, 'EXIST')
  const how = input.uint32()
  if (how > EXCLUSIVE) throw new NfsFailure('INVAL')
  const verifier = how === EXCLUSIVE ? input.fixedLatin1(8) : undefined
  const change = how === EXCLUSIVE ? noChange : decodeChange(input)
  try {
    closeSync(openSync(toPath(place.path), 'wx', 0o600))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    const there = call.tree.child(place.parent, place.name)
    const isRepeat = verifier !== undefined && there.object.createVerifier === verifier
    if (!isRepeat && (how !== UNCHECKED || !there.stats.isFile())) throw new NfsFailure('EXIST')
    if (how === UNCHECKED && change.size !== undefined) applyChange(there, { ...noChange, size: change.size })
    return described(call, place.parent, place.name)
  }
  const answer = made(call, place, change, how === EXCLUSIVE ? undefined : 0o644)
  call.tree.child(place.parent, place.name).object.createVerifier = verifier
  return answer
}

function makeNode (input: XdrReader, call: Call): Answer {
  const place = placeArgument(input, call, 'EXIST')
  const kind = input.uint32()
  // NF3BLK 3, NF3CHR 4, NF3SOCK 6, NF3FIFO 7. mknod(1) makes no sockets.
  if (![3, 4, 7].includes(kind)) throw new NfsFailure(kind === 6 ? 'NOTSUPP' : 'BADTYPE')
  const change = decodeChange(input)
  const device = kind === 7 ? [] : [String(input.uint32()), String(input.uint32())]
  // Arguments of a program are text here, names are bytes.
  const file = toPath(place.path).toString('utf8')
  if (!Buffer.from(file).equals(toPath(place.path))) throw new NfsFailure('NOTSUPP')
  try {
    lstatSync(file)
  } catch {
    execFileSync('mknod', [file, kind === 3 ? 'b' : kind === 4 ? 'c' : 'p', ...device], { stdio: 'ignore' })
    return made(call, place, change, 0o644)
  }
  throw new NfsFailure('EXIST')
}

function remove (input: XdrReader, call: Call, unlink: (path: Buffer) => void): Answer {
  const { parent, name, path } = placeArgument(input, call, 'INVAL')
  const victim = call.tree.child(parent, name)
  unlink(toPath(path))
  call.tree.unname(victim.object, parent.object, name)
  const after = again(call, parent).stats
  return (out) => { encodeWcc(out, parent.stats, after) }
}

function rename (input: XdrReader, call: Call): Answer {
  const from = placeArgument(input, call, 'INVAL')
  const to = placeArgument(input, call, 'INVAL')
  const moved = call.tree.child(from.parent, from.name)
  let covered: Found | undefined
  try {
    covered = call.tree.child(to.parent, to.name)
  } catch { /* Nothing there. */ }
  renameSync(toPath(from.path), toPath(to.path))
  if (covered?.object !== moved.object) {
    if (covered !== undefined) call.tree.unname(covered.object, to.parent.object, to.name)
    // The new name first: an object without a name would be forgotten.
    call.tree.child(again(call, to.parent), to.name)
    call.tree.unname(moved.object, from.parent.object, from.name)
  }
  const [fromAfter, toAfter] = [again(call, from.parent).stats, again(call, to.parent).stats]
  return (out) => {
    encodeWcc(out, from.parent.stats, fromAfter)
    encodeWcc(out, to.parent.stats, toAfter)
  }
}

export const nameProcedures = {
  CREATE: { number: 8, failWords: 2, run: create },
  MKDIR: {
    number: 9,
    failWords: 2,
    run: (input, call) => {
      const place = placeArgument(input, call, 'EXIST')
      const change = decodeChange(input)
      mkdirSync(toPath(place.path), 0o700)
      return made(call, place, change, 0o755)
    }
  },
  SYMLINK: {
    number: 10,
    failWords: 2,
    run: (input, call) => {
      const place = placeArgument(input, call, 'EXIST')
      const change = decodeChange(input)
      symlinkSync(toPath(input.latin1(pathBytesMax)), toPath(place.path))
      return made(call, place, change, undefined)
    }
  },
  MKNOD: { number: 11, failWords: 2, run: makeNode },
  REMOVE: { number: 12, failWords: 2, run: (input, call) => remove(input, call, unlinkSync) },
  RMDIR: { number: 13, failWords: 2, run: (input, call) => remove(input, call, (path) => { rmdirSync(path) }) },
  RENAME: { number: 14, failWords: 4, run: rename },
  LINK: {
    number: 15,
    failWords: 3,
    run: (input, call) => {
      const found = findArgument(input, call)
      const { parent, name, path } = placeArgument(input, call, 'EXIST')
      linkSync(toPath(found.path), toPath(path))
      const linked = call.tree.child(parent, name)
      const after = again(call, parent).stats
      return (out) => {
        encodePostOp(out, linked.stats)
        encodeWcc(out, parent.stats, after)
      }
    }
  }
} as const satisfies Record<string, Procedure>
