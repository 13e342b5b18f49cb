/**
 * Procedures on single objects: GETATTR, SETATTR, LOOKUP, ACCESS, READLINK, FSSTAT, FSINFO, PATHCONF (RFC 1813 section
 * 3.3). Owns their grammar and meaning. Does not know records, programs or scripts.
 */
import { readlinkSync, statfsSync } from 'node:fs'
import type { XdrReader } from '../../../proto/xdr/reader.ts'
import { applyChange, decodeChange, encodeAttributes, encodePostOp, encodeWcc } from './attributes.ts'
import {
  fileHandleBytesMax,
  nameBytesMax,
  pathBytesMax,
  type Call,
  type Credential,
  type Procedure
} from './procedure.ts'
import { NfsFailure } from './status.ts'
import { toPath, type Found } from './tree.ts'

export const findArgument = (input: XdrReader, call: Call): Found => call.tree.find(input.opaque(fileHandleBytesMax))

/** filename3: never a path. Longer than the file system allows is an answer, not a broken message. */
export function nameArgument (input: XdrReader): string {
  const name = input.latin1(pathBytesMax)
  if (name.length > nameBytesMax) throw new NfsFailure('NAMETOOLONG')
  if (name === '' || name.includes('/') || name.includes('\0')) throw new NfsFailure('INVAL')
  return name
}

export function requireFolder (found: Found): void {
  if (!found.stats.isDirectory()) throw new NfsFailure('NOTDIR')
}

/** rwx of the mode bits for this caller; root may read and write everything, and execute what anybody may. */
function modeRights ({ stats }: Found, { uid, gid, groups }: Credential): number {
  const mode = Number(stats.mode)
  if (uid === 0) return stats.isDirectory() || (mode & 0o111) !== 0 ? 7 : 6
  if (uid === Number(stats.uid)) return (mode >> 6) & 7
  return gid === Number(stats.gid) || groups.includes(Number(stats.gid)) ? (mode >> 3) & 7 : mode & 7
}

/** ACCESS3_READ 1, LOOKUP 2, MODIFY 4, EXTEND 8, DELETE 16, EXECUTE 32. */
function accessRights (found: Found, credential: Credential): number {
  const rights = modeRights(found, credential)
  const isFolder = found.stats.isDirectory()
  return ((rights & 4) !== 0 ? 1 : 0) | ((rights & 2) !== 0 ? 4 | 8 | (isFolder ? 16 : 0) : 0) |
    ((rights & 1) !== 0 ? (isFolder ? 2 : 32) : 0)
}

export const objectProcedures = {
  NULL: { number: 0, failWords: 0, bare: true, run: () => () => {} },
  GETATTR: {
    number: 1,
    failWords: 0,
    run: (input, call) => {
      const found = findArgument(input, call)
      return (out) => { encodeAttributes(out, found.stats) }
    }
  },
  SETATTR: {
    number: 2,
    failWords: 2,
    run: (input, call) => {
      const found = findArgument(input, call)
      const change = decodeChange(input)
      const guard = input.optional((inner) => [inner.uint32(), inner.uint32()] as const)
      if (guard !== undefined && BigInt(guard[0]) * 1_000_000_000n + BigInt(guard[1]) !== found.stats.ctimeNs) {
        throw new NfsFailure('NOT_SYNC')
      }
      applyChange(found, change)
      const after = call.tree.find(found.object.handle).stats
      return (out) => { encodeWcc(out, found.stats, after) }
    }
  },
  LOOKUP: {
    number: 3,
    failWords: 1,
    run: (input, call) => {
      const parent = findArgument(input, call)
      const name = nameArgument(input)
      requireFolder(parent)
      const found = name === '.' ? parent : name === '..' ? call.tree.parentOf(parent) : call.tree.child(parent, name)
      return (out) => {
        out.opaque(found.object.handle, fileHandleBytesMax)
        encodePostOp(out, found.stats)
        encodePostOp(out, parent.stats)
      }
    }
  },
  ACCESS: {
    number: 4,
    failWords: 1,
    run: (input, call) => {
      const found = findArgument(input, call)
      const asked = input.uint32()
      return (out) => {
        encodePostOp(out, found.stats)
        out.uint32(asked & accessRights(found, call.credential))
      }
    }
  },
  READLINK: {
    number: 5,
    failWords: 1,
    run: (input, call) => {
      const found = findArgument(input, call)
      if (!found.stats.isSymbolicLink()) throw new NfsFailure('INVAL')
      const target = readlinkSync(toPath(found.path), { encoding: 'buffer' })
      return (out) => {
        encodePostOp(out, found.stats)
        out.opaque(target, pathBytesMax)
      }
    }
  },
  FSSTAT: {
    number: 18,
    failWords: 1,
    run: (input, call) => {
      const found = findArgument(input, call)
      const facts = statfsSync(toPath(found.path), { bigint: true })
      const figures = call.verdict.statistics ?? [
        facts.blocks * facts.bsize, facts.bfree * facts.bsize, facts.bavail * facts.bsize,
        facts.files, facts.ffree, facts.ffree
      ]
      return (out) => {
        encodePostOp(out, found.stats)
        for (const figure of figures) out.uint64(figure)
        out.uint32(0)
      }
    }
  },
  FSINFO: {
    number: 19,
    failWords: 1,
    run: (input, call) => {
      const found = findArgument(input, call)
      const { readBytesMax, writeBytesMax, directoryBytesMax } = call.offer
      return (out) => {
        encodePostOp(out, found.stats)
        const told = call.verdict.information ?? {}
        const sizes = [
          told.rtmax ?? readBytesMax, told.rtpref ?? readBytesMax, 4096, told.wtmax ?? writeBytesMax,
          told.wtpref ?? writeBytesMax, 4096, told.dtpref ?? directoryBytesMax
        ]
        for (const size of sizes) out.uint32(size)
        out.size64(told.maxFileSize ?? Number.MAX_SAFE_INTEGER)
        // time_delta: a microsecond. FSF3_LINK, SYMLINK, HOMOGENEOUS and CANSETTIME.
        out.uint32(0)
        out.uint32(1000)
        out.uint32(told.properties ?? 0x1b)
      }
    }
  },
  PATHCONF: {
    number: 20,
    failWords: 1,
    run: (input, call) => {
      const found = findArgument(input, call)
      return (out) => {
        encodePostOp(out, found.stats)
        out.uint32(call.verdict.pathLimits?.linkMax ?? 32_000)
        out.uint32(call.verdict.pathLimits?.nameMax ?? nameBytesMax)
        // no_trunc, chown_restricted, case_insensitive, case_preserving.
        for (const flag of [true, true, false, true]) out.bool(flag)
      }
    }
  }
} as const satisfies Record<string, Procedure>
