/**
 * NFS version 3, RFC 1813 section 3.3: the table of its 22 procedures.
 * Owns one row per procedure: logs, metrics, retries and tests iterate it. Does not know how a message looks: that is
 * one file each.
 *
 * `repeatable` asks: does a second run, after a lost reply, answer like the first would have? SETATTR without guard and
 * WRITE set the same values again; with a guard the second SETATTR finds the ctime changed.
 */
import { decodeVoid, encodeVoid, type Procedure, rowsOf } from '../rpc/procedure.ts'
import { decodeAccess, encodeAccess } from './access.ts'
import { decodeCommit, encodeCommit } from './commit.ts'
import { decodeCreate, encodeCreate } from './create.ts'
import { decodeFsinfo, encodeFsinfo } from './fsinfo.ts'
import { decodeFsstat, encodeFsstat } from './fsstat.ts'
import { decodeGetattr, encodeGetattr } from './getattr.ts'
import { decodeLink, encodeLink } from './link.ts'
import { decodeLookup, encodeLookup } from './lookup.ts'
import { decodeMkdir, encodeMkdir } from './mkdir.ts'
import { decodeMknod, encodeMknod } from './mknod.ts'
import { decodePathconf, encodePathconf } from './pathconf.ts'
import { decodeRead, encodeRead } from './read.ts'
import { decodeReaddir, encodeReaddir } from './readdir.ts'
import { decodeReaddirplus, encodeReaddirplus } from './readdirplus.ts'
import { decodeReadlink, encodeReadlink } from './readlink.ts'
import { decodeRemove, encodeRemove } from './remove.ts'
import { decodeRename, encodeRename } from './rename.ts'
import { decodeRmdir, encodeRmdir } from './rmdir.ts'
import { decodeSetattr, encodeSetattr } from './setattr.ts'
import { decodeSymlink, encodeSymlink } from './symlink.ts'
import { decodeWrite, encodeWrite } from './write.ts'

export const NFS_PROGRAM = 100003
export const NFS_V3 = 3

export type Nfs3ProcedureName =
  | 'NULL' | 'GETATTR' | 'SETATTR' | 'LOOKUP' | 'ACCESS' | 'READLINK' | 'READ' | 'WRITE' | 'CREATE' | 'MKDIR'
  | 'SYMLINK' | 'MKNOD'
  | 'REMOVE' | 'RMDIR' | 'RENAME' | 'LINK' | 'READDIR' | 'READDIRPLUS' | 'FSSTAT' | 'FSINFO' | 'PATHCONF' | 'COMMIT'

const row = rowsOf(NFS_PROGRAM, NFS_V3)

export const procedures = {
  NULL: row('NULL', 0, encodeVoid, decodeVoid, { repeatable: true }),
  GETATTR: row('GETATTR', 1, encodeGetattr, decodeGetattr, { repeatable: true }),
  SETATTR: row('SETATTR', 2, encodeSetattr, decodeSetattr, { repeatable: false }),
  LOOKUP: row('LOOKUP', 3, encodeLookup, decodeLookup, { repeatable: true }),
  ACCESS: row('ACCESS', 4, encodeAccess, decodeAccess, { repeatable: true }),
  READLINK: row('READLINK', 5, encodeReadlink, decodeReadlink, { repeatable: true }),
  READ: row('READ', 6, encodeRead, decodeRead, { repeatable: true, bulk: 'result' }),
  WRITE: row('WRITE', 7, encodeWrite, decodeWrite, { repeatable: true, bulk: 'arguments' }),
  CREATE: row('CREATE', 8, encodeCreate, decodeCreate, { repeatable: false }),
  MKDIR: row('MKDIR', 9, encodeMkdir, decodeMkdir, { repeatable: false }),
  SYMLINK: row('SYMLINK', 10, encodeSymlink, decodeSymlink, { repeatable: false }),
  MKNOD: row('MKNOD', 11, encodeMknod, decodeMknod, { repeatable: false }),
  REMOVE: row('REMOVE', 12, encodeRemove, decodeRemove, { repeatable: false }),
  RMDIR: row('RMDIR', 13, encodeRmdir, decodeRmdir, { repeatable: false }),
  RENAME: row('RENAME', 14, encodeRename, decodeRename, { repeatable: false }),
  LINK: row('LINK', 15, encodeLink, decodeLink, { repeatable: false }),
  READDIR: row('READDIR', 16, encodeReaddir, decodeReaddir, { repeatable: true }),
  READDIRPLUS: row('READDIRPLUS', 17, encodeReaddirplus, decodeReaddirplus, { repeatable: true }),
  FSSTAT: row('FSSTAT', 18, encodeFsstat, decodeFsstat, { repeatable: true }),
  FSINFO: row('FSINFO', 19, encodeFsinfo, decodeFsinfo, { repeatable: true }),
  PATHCONF: row('PATHCONF', 20, encodePathconf, decodePathconf, { repeatable: true }),
  COMMIT: row('COMMIT', 21, encodeCommit, decodeCommit, { repeatable: true })
} as const satisfies Record<Nfs3ProcedureName, Procedure<never, unknown>>
