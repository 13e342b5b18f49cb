/**
 * The file system's back end, spoken in NFS version 3.
 *
 * Owns one method per operation: neutral values in, a call, neutral values out. Knows no cache, no connection and no
 * path: names of one component and handles only. What may be retried is decided by the rows of the procedure table and
 * `ambiguous.ts`.
 */
import type { FileName } from '../base/brands.ts'
import { Errno, isErrno } from '../base/errno.ts'
import type * as fs from '../fs/backend.ts'
import type { badCookie } from '../fs/backend.ts'
import type { MadeOk } from '../../proto/nfs3/made.ts'
import { procedures } from '../../proto/nfs3/procedures.ts'
import type { Nfs3Failure, Nfs3Result } from '../../proto/nfs3/nfsstat.ts'
import { isNfs3Time, type WccData } from '../../proto/nfs3/types.ts'
import type { Procedure } from '../../proto/rpc/procedure.ts'
import type { CallTrace } from '../rpc/call.ts'
import { Verifier } from './ambiguous.ts'
import type { Asker } from './asker.ts'
import {
  toAttributes,
  toChange,
  toOptionalAttributes,
  toRemoteHandle,
  toSetAttributes,
  toWriteVerifier
} from './attributes.ts'
import { errnoOf } from './errors.ts'
import { createFile, CreateVerifiers } from './create.ts'
import { listDirectory, type ListingState } from './listing.ts'
import { accessByMode, isMissing } from './missing.ts'

export interface BackendParts {
  readonly asker: Asker
  readonly root: fs.Found
  readonly capabilities: fs.BackendCapabilities
}

export class Nfs3Backend implements fs.Backend {
  readonly capabilities: fs.BackendCapabilities
  readonly root: fs.Found
  readonly #asker: Asker
  readonly #verifier: Verifier
  readonly #verifiers = new CreateVerifiers()
  readonly #listing: ListingState

  constructor ({ asker, root, capabilities }: BackendParts) {
    this.#asker = asker
    this.#verifier = new Verifier(asker)
    this.root = root
    this.capabilities = capabilities
    this.#listing = { isPlusMissing: !capabilities.directoryAttributes }
  }

  get answers (): number { return this.#asker.answers }

  async getattr (handle: fs.RemoteHandle, credential: fs.Credential): Promise<fs.Attributes | Errno> {
    const result = await this.#asker.ask(procedures.GETATTR, { object: handle }, credential)
    if (isErrno(result)) return result
    return result.ok ? toAttributes(result.value) : errnoOf[result.status]
  }

  async setattr (
    handle: fs.RemoteHandle,
    changes: fs.AttributeChanges,
    credential: fs.Credential
  ): Promise<fs.Change | Errno> {
    if (hasUnstorableTime(changes)) return Errno.EINVAL
    return await this.#changing(procedures.SETATTR, {
      object: handle, attributes: toSetAttributes(changes), guard: undefined
    }, credential)
  }

  async lookup (
    directory: fs.RemoteHandle,
    name: FileName,
    credential: fs.Credential
  ): Promise<fs.LookupAnswer | Errno> {
    if (this.#isTooLong(name)) return Errno.ENAMETOOLONG
    const result = await this.#asker.ask(procedures.LOOKUP, { dir: directory, name }, credential)
    if (isErrno(result)) return result
    if (!result.ok) return errnoOf[result.status]
    const { object, attributes, directory: dir } = result.value
    return {
      handle: toRemoteHandle(object), attributes: toOptionalAttributes(attributes),
      directory: toOptionalAttributes(dir)
    }
  }

  async access (handle: fs.RemoteHandle, wanted: number, credential: fs.Credential): Promise<fs.AccessAnswer | Errno> {
    const result = await this.#asker.ask(procedures.ACCESS, { object: handle, access: wanted }, credential)
    if (isMissing(result)) return await this.#accessByMode(handle, wanted, credential)
    if (isErrno(result)) return result
    if (!result.ok) return errnoOf[result.status]
    return { granted: result.value.access & wanted, attributes: toOptionalAttributes(result.value.attributes) }
  }

  async #accessByMode (
    handle: fs.RemoteHandle,
    wanted: number,
    credential: fs.Credential
  ): Promise<fs.AccessAnswer | Errno> {
    const attributes = await this.getattr(handle, credential)
    if (isErrno(attributes)) return attributes
    return { granted: accessByMode(attributes, wanted, credential), attributes }
  }

  async readlink (handle: fs.RemoteHandle, credential: fs.Credential): Promise<fs.ReadlinkAnswer | Errno> {
    const result = await this.#asker.ask(procedures.READLINK, { symlink: handle }, credential)
    if (isErrno(result)) return result
    if (!result.ok) return errnoOf[result.status]
    return { target: result.value.target, attributes: toOptionalAttributes(result.value.attributes) }
  }

  /** Version 3 has no OPEN: the state is the handle and who opened it. */
  open (handle: fs.RemoteHandle, credential: fs.Credential): fs.OpenState {
    return { handle, credential }
  }

  close (): undefined { return undefined }

  async read (state: fs.OpenState, offsetBytes: number, countBytes: number): Promise<fs.ReadAnswer | Errno> {
    const count = Math.min(countBytes, this.capabilities.readBytesMax)
    const result = await this.#asker.askBulk(
      procedures.READ,
      { file: state.handle, offsetBytes, countBytes: count },
      state.credential
    )
    if (isErrno(result)) return result
    const { value, memory } = result
    if (!value.ok) return errnoOf[value.status]
    const { data, eof, attributes } = value.value
    if (data.length === 0 && !eof && count > 0) {
      // Neither data nor the end: asking again would ask for ever.
      memory.release()
      return Errno.EIO
    }
    return { data, eof, attributes: toOptionalAttributes(attributes), release: () => { memory.release() } }
  }

  async write (
    state: fs.OpenState,
    offsetBytes: number,
    data: readonly Buffer[],
    stability: fs.Stability
  ): Promise<fs.WriteAnswer | Errno> {
    const args = {
      file: state.handle, offsetBytes, stable: stability, data: cut(data, this.capabilities.writeBytesMax)
    }
    const result = await this.#asker.ask(procedures.WRITE, args, state.credential)
    if (isErrno(result)) return result
    if (!result.ok) return errnoOf[result.status]
    const { countBytes, committed, verifier, wcc } = result.value
    return { count: countBytes, committed, verifier: toWriteVerifier(verifier), change: toChange(wcc) }
  }

  async commit (state: fs.OpenState, offsetBytes: number, countBytes: number): Promise<fs.CommitAnswer | Errno> {
    // The count has 32 bits; more than that is "to the end", which commits at least as much.
    const count = countBytes > 0xffff_ffff ? 0 : countBytes
    const result = await this.#asker.ask(
      procedures.COMMIT,
      { file: state.handle, offsetBytes, countBytes: count },
      state.credential
    )
    // Nothing says that the bytes are kept. A verifier that no WRITE has had makes them be sent again, soon FILE_SYNC.
    if (isMissing(result)) return { verifier: toWriteVerifier(''), change: { before: undefined, after: undefined } }
    if (isErrno(result)) return result
    if (!result.ok) return errnoOf[result.status]
    return { verifier: toWriteVerifier(result.value.verifier), change: toChange(result.value.wcc) }
  }

  async create (
    directory: fs.RemoteHandle,
    name: FileName,
    how: fs.CreateMode,
    attributes: fs.AttributeChanges,
    credential: fs.Credential
  ): Promise<fs.Made | Errno> {
    if (this.#isTooLong(name)) return Errno.ENAMETOOLONG
    if (hasUnstorableTime(attributes)) return Errno.EINVAL
    return await createFile(
      this.#asker,
      { directory, name, how, attributes, credential, verifiers: this.#verifiers },
      (made) => this.#made(directory, name, credential, made)
    )
  }

  async mkdir (
    directory: fs.RemoteHandle,
    name: FileName,
    attributes: fs.AttributeChanges,
    credential: fs.Credential
  ): Promise<fs.Made | Errno> {
    return await this.#making(
      procedures.MKDIR,
      { dir: directory, name, attributes: toSetAttributes(attributes) },
      credential
    )
  }

  async symlink (
    directory: fs.RemoteHandle,
    name: FileName,
    target: string,
    attributes: fs.AttributeChanges,
    credential: fs.Credential
  ): Promise<fs.Made | Errno> {
    const trace: CallTrace = { retransmitted: false }
    const args = { dir: directory, name, target, attributes: toSetAttributes(attributes) }
    const made = await this.#making(procedures.SYMLINK, args, credential, trace)
    if (made !== Errno.EEXIST || !trace.retransmitted) return made
    const ours = await this.#verifier.madeSymlink(directory, name, target, credential)
    if (ours === undefined) return made
    return {
      handle: toRemoteHandle(ours.object),
      attributes: toOptionalAttributes(ours.attributes),
      directory: { before: undefined, after: toOptionalAttributes(ours.directory) }
    }
  }

  async mknod (
    directory: fs.RemoteHandle,
    name: FileName,
    node: fs.NodeSpec,
    attributes: fs.AttributeChanges,
    credential: fs.Credential
  ): Promise<fs.Made | Errno> {
    const args = {
      dir: directory, name, type: node.kind, major: node.major, minor: node.minor,
      attributes: toSetAttributes(attributes)
    }
    return await this.#making(procedures.MKNOD, args, credential)
  }

  async remove (directory: fs.RemoteHandle, name: FileName, credential: fs.Credential): Promise<fs.Change | Errno> {
    return await this.#removing(procedures.REMOVE, directory, name, credential)
  }

  async rmdir (directory: fs.RemoteHandle, name: FileName, credential: fs.Credential): Promise<fs.Change | Errno> {
    return await this.#removing(procedures.RMDIR, directory, name, credential)
  }

  async rename (
    from: fs.RemoteHandle,
    fromName: FileName,
    to: fs.RemoteHandle,
    toName: FileName,
    credential: fs.Credential
  ): Promise<fs.Renamed | Errno> {
    if (this.#isTooLong(fromName) || this.#isTooLong(toName)) return Errno.ENAMETOOLONG
    const trace: CallTrace = { retransmitted: false }
    const result = await this.#asker.ask(
      procedures.RENAME,
      { fromDir: from, fromName, toDir: to, toName },
      credential,
      trace
    )
    if (isErrno(result)) return result
    const isOurs = !result.ok && result.status === 'NFS3ERR_NOENT' && trace.retransmitted &&
      await this.#verifier.isRenamed({ dir: from, name: fromName }, { dir: to, name: toName }, credential)
    if (!result.ok && !isOurs) return errnoOf[result.status]
    return { from: changeOf(result.value.from, isOurs), to: changeOf(result.value.to, isOurs) }
  }

  async link (
    handle: fs.RemoteHandle,
    directory: fs.RemoteHandle,
    name: FileName,
    credential: fs.Credential
  ): Promise<fs.Linked | Errno> {
    if (this.#isTooLong(name)) return Errno.ENAMETOOLONG
    const trace: CallTrace = { retransmitted: false }
    const result = await this.#asker.ask(procedures.LINK, { file: handle, dir: directory, name }, credential, trace)
    if (isMissing(result)) return Errno.EPERM
    if (isErrno(result)) return result
    const isOurs = !result.ok && result.status === 'NFS3ERR_EXIST' && trace.retransmitted &&
      await this.#verifier.isLinked(handle, directory, name, credential)
    if (!result.ok && !isOurs) return errnoOf[result.status]
    return {
      attributes: toOptionalAttributes(result.value.attributes), directory: changeOf(result.value.directory, isOurs)
    }
  }

  async readdir (
    directory: fs.RemoteHandle,
    position: fs.ListPosition,
    credential: fs.Credential
  ): Promise<fs.DirectoryPage | Errno | typeof badCookie> {
    return await listDirectory(this.#asker, directory, position, credential, this.#listing)
  }

  async statfs (handle: fs.RemoteHandle, credential: fs.Credential): Promise<fs.FilesystemStatistics | Errno> {
    const result = await this.#asker.ask(procedures.FSSTAT, { fsroot: handle }, credential)
    if (isErrno(result)) return result
    if (!result.ok) return errnoOf[result.status]
    const { totalBytes, freeBytes, availableBytes, totalFiles, freeFiles, availableFiles } = result.value
    return { totalBytes, freeBytes, availableBytes, totalFiles, freeFiles, availableFiles }
  }

  #isTooLong (name: FileName): boolean { return name.length > this.capabilities.nameBytesMax }

  async #changing<A> (
    row: Procedure<A, Nfs3Result<WccData, WccData>>,
    args: A,
    credential: fs.Credential
  ): Promise<fs.Change | Errno> {
    const result = await this.#asker.ask(row, args, credential)
    if (isErrno(result)) return result
    return result.ok ? toChange(result.value) : errnoOf[result.status]
  }

  async #removing (
    row: typeof procedures.REMOVE | typeof procedures.RMDIR,
    dir: fs.RemoteHandle,
    name: FileName,
    credential: fs.Credential
  ): Promise<fs.Change | Errno> {
    if (this.#isTooLong(name)) return Errno.ENAMETOOLONG
    const trace: CallTrace = { retransmitted: false }
    const result = await this.#asker.ask(row, { dir, name }, credential, trace)
    if (isErrno(result)) return result
    const isOurs = !result.ok && result.status === 'NFS3ERR_NOENT' && trace.retransmitted &&
      await this.#verifier.isGone(dir, name, credential)
    if (!result.ok && !isOurs) return errnoOf[result.status]
    return changeOf(result.value, isOurs)
  }

  async #making<A extends { readonly dir: string, readonly name: FileName }> (
    row: Procedure<A, Nfs3Result<MadeOk, WccData>>,
    args: A,
    credential: fs.Credential,
    trace?: CallTrace
  ): Promise<fs.Made | Errno> {
    if (this.#isTooLong(args.name)) return Errno.ENAMETOOLONG
    const result = await this.#asker.ask(row, args, credential, trace)
    if (isMissing(result)) return Errno.EPERM
    if (isErrno(result)) return result
    if (!result.ok) return makingErrno(result.status)
    return await this.#made(toRemoteHandle(args.dir), args.name, credential, result.value)
  }

  /** A server may leave out the handle of what it made (RFC 1813 section 3.3.8): then the name leads to it. */
  async #made (
    directory: fs.RemoteHandle,
    name: FileName,
    credential: fs.Credential,
    made: MadeOk
  ): Promise<fs.Made | Errno> {
    const change = toChange(made.directory)
    if (made.object !== undefined) {
      return {
        handle: toRemoteHandle(made.object), attributes: toOptionalAttributes(made.attributes), directory: change
      }
    }
    const found = await this.lookup(directory, name, credential)
    return isErrno(found) ? found : { handle: found.handle, attributes: found.attributes, directory: change }
  }
}

/** EPERM where a server cannot make such an object, as mknod(2), symlink(2) and link(2) have it. */
function makingErrno (status: Nfs3Failure): Errno {
  return status === 'NFS3ERR_BADTYPE' ? Errno.EPERM : errnoOf[status]
}

/** After a repeated call the "before" is the state our own first attempt left: it says nothing about others. */
function changeOf (wcc: WccData, isOurs: boolean): fs.Change {
  return isOurs ? { before: undefined, after: toOptionalAttributes(wcc.after) } : toChange(wcc)
}

/** nfstime3 has unsigned 32-bit seconds: what does not fit is refused rather than stored as another time. */
function hasUnstorableTime ({ atime, mtime }: fs.AttributeChanges): boolean {
  return [atime, mtime].some((time) => typeof time === 'object' && !isNfs3Time(time))
}

/** The first `bytesMax` bytes; nearly always all of them. */
function cut (data: readonly Buffer[], bytesMax: number): readonly Buffer[] {
  let bytes = 0
  for (const part of data) bytes += part.length
  if (bytes <= bytesMax) return data
  let left = bytesMax
  const kept: Buffer[] = []
  for (const part of data) {
    if (part.length > left) {
      if (left > 0) kept.push(part.subarray(0, left))
      return kept
    }
    kept.push(part)
    left -= part.length
  }
  return data
}
