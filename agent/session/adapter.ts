/**
 * FUSE operations as file-system operations, one line of meaning each.
 *
 * Owns the translation between the two and the rule which answers carry references. Knows `proto/fuse` types and the
 * `FilesystemOperations` border; no bytes, no device.
 */
import { toFileName } from '../base/brands.ts'
import { Errno, isErrno } from '../base/errno.ts'
import { InvariantError, messageOf } from '../base/errors.ts'
import { isPromise } from '../base/maybe-promise.ts'
import type { MaybePromise } from '../base/maybe-promise.ts'
import type {
  Entry, FileData, FilesystemOperations, HandleId, NoEntry, NodeAttributes, Opened, OpenFlags
} from '../fs/operations.ts'
import type { OpenIn, OpenOut, ReadIn } from '../../proto/fuse/files.ts'
import type { CreateIn, MknodIn, RenameIn } from '../../proto/fuse/entries.ts'
import type { OnBroken } from './broken.ts'
import type { Call, Service } from './call.ts'
import type { Services } from './dispatcher.ts'
import type { Log } from './log.ts'
import { changesOf, soloWriterSetattr } from './changes.ts'
import { ListingReply } from './listing.ts'
import type { OperationStatistics } from './statistics.ts'

/** The answer of `result` through `convert`, at once when it is there at once. */
function converted<T, U> (result: MaybePromise<T | Errno>, convert: (answer: T) => U): MaybePromise<U | Errno> {
  const apply = (answer: T | Errno): U | Errno => isErrno(answer) ? answer : convert(answer)
  return isPromise(result) ? result.then(apply) : apply(result)
}

const openFlagsOf = ({ read, write, append, truncate, direct, sync, execute }: OpenIn): OpenFlags => ({
  read, write, append, truncate, direct, sync, execute
})

/** A reader's close has nothing to report: without this the kernel would ask, and the reader wait, at each one. */
const openOutOf = ({ handle, keepCache, bypassesCache }: Opened, { write }: OpenIn): OpenOut => ({
  handle, keepCache, closesSilently: !write, ...bypassesCache === true ? { bypassesCache } : undefined
})

export interface AdapterParts {
  readonly operations: FilesystemOperations
  readonly statistics: OperationStatistics
  readonly log: Log
  readonly onBroken: OnBroken
  /** The kernel has a write-back cache, and so owns size and times of files. */
  readonly isSoloWriter?: boolean
}

export function createServices ({ operations, statistics, log, onBroken, isSoloWriter = false }:
  AdapterParts): Services
{
  const failureTold = ({ handle }: Call): void => {
    if (handle !== undefined) operations.failureTold(handle)
  }
  const acknowledge = (taken: NodeAttributes): void => { operations.acknowledge(taken) }
  const remember = (entry: Entry | NoEntry): void => {
    if (!('attributes' in entry)) return
    operations.remember(entry.nodeid, 1)
    operations.acknowledge(entry)
  }
  /** An open that nobody waits for any more is closed again. */
  const neverOpened = (handle: HandleId): void => {
    const done = operations.neverOpened(handle)
    if (isPromise(done)) {
      done.catch((error: unknown) => {
        if (error instanceof InvariantError) onBroken(error)
        else log('error', { op: 'RELEASE', error: messageOf(error) }, 'a handle could not be released')
      })
    }
  }
  const entryService = <
    Q,
    E extends Entry | NoEntry
  >(serve: (request: Q, call: Call) => MaybePromise<E | Errno>): Service<Q, E> => ({ serve, accepted: remember })

  const rename = (request: RenameIn, call: Call): MaybePromise<undefined | Errno> => {
    const { newParent, oldName, newName, noReplace, exchange, whiteout } = request
    return operations.rename(call.nodeid, toFileName(oldName), newParent, toFileName(newName), {
      noReplace, exchange, whiteout
    }, call)
  }
  const mknod = ({ kind, mode, major, minor, name }: MknodIn, call: Call): MaybePromise<Entry | Errno> => {
    if (kind === 'directory' || kind === 'symlink') return Errno.EINVAL
    return operations.mknod(call.nodeid, toFileName(name), { kind, major, minor, mode }, call)
  }
  const read: Service<ReadIn, FileData> = {
    serve: ({ fh, offsetBytes, sizeBytes }) => operations.read(fh, offsetBytes, sizeBytes),
    isByHandle: true,
    mayOutliveThread: true,
    accepted (data) {
      statistics.readBytes += data.bytes
      data.release()
    },
    vanished (data) { data.release() }
  }
  const create: Service<CreateIn, { readonly entry: Entry, readonly opened: Opened }> = {
    serve: (request, call) =>
      operations.create(
        call.nodeid,
        toFileName(request.name),
        request.mode,
        request.exclusive,
        openFlagsOf(request),
        call
      ),
    accepted ({ entry }) { remember(entry) },
    vanished ({ opened }) { neverOpened(opened.handle) }
  }
  const listing = (plus: boolean): Service<ReadIn, ListingReply> => ({
    isByHandle: true,
    serve ({ fh, offsetBytes, sizeBytes }, call) {
      const list = new ListingReply(sizeBytes, plus)
      const finished = (answer: undefined | Errno): ListingReply | Errno => list.finish(answer)
      const result = operations.readdir(fh, offsetBytes, plus, list.sink, call)
      return isPromise(result) ? result.then(finished) : finished(result)
    },
    accepted (list) { for (const entry of list.entries) remember(entry) }
  })

  return {
    LOOKUP: entryService(({ name }, call) => operations.lookup(call.nodeid, toFileName(name), call)),
    GETATTR: { serve: ({ fh }, call) => operations.getattr(call.nodeid, fh, call), accepted: acknowledge },
    SETATTR: {
      serve: isSoloWriter
        ? (request, call) => soloWriterSetattr(operations, request, call)
        : (request, call) => operations.setattr(call.nodeid, request.fh, changesOf(request), call),
      accepted: acknowledge
    },
    READLINK: { serve: (_, call) => operations.readlink(call.nodeid, call) },
    SYMLINK: entryService(({ name, target }, call) => operations.symlink(call.nodeid, toFileName(name), target, call)),
    MKNOD: entryService(mknod),
    MKDIR: entryService(({ name, mode }, call) => operations.mkdir(call.nodeid, toFileName(name), mode, call)),
    UNLINK: { serve: ({ name }, call) => operations.unlink(call.nodeid, toFileName(name), call) },
    RMDIR: { serve: ({ name }, call) => operations.rmdir(call.nodeid, toFileName(name), call) },
    RENAME: { serve: rename },
    RENAME2: { serve: rename },
    LINK: entryService(({ oldNodeid, name }, call) => operations.link(oldNodeid, call.nodeid, toFileName(name), call)),
    OPEN: {
      serve: (request, call) =>
        converted(operations.open(call.nodeid, openFlagsOf(request), call), (opened) => openOutOf(opened, request)),
      vanished ({ handle }) { neverOpened(handle) }
    },
    CREATE: create,
    READ: read,
    WRITE: {
      serve: ({ fh, offsetBytes, data, fromPageCache }, call) => {
        statistics.writtenBytes += data.length
        call.handle = fh
        return operations.write(fh, offsetBytes, data, fromPageCache)
      },
      isByHandle: true,
      mayOutliveThread: true,
      failed: failureTold
    },
    FLUSH: {
      isByHandle: true,
      serve ({ fh }, call) {
        call.handle = fh
        return operations.flush(fh, call)
      },
      failed: failureTold
    },
    FSYNC: {
      isByHandle: true,
      serve ({ fh }, call) {
        call.handle = fh
        return operations.fsync(fh)
      },
      failed: failureTold
    },
    RELEASE: { isByHandle: true, serve: ({ fh }) => settled(operations.release(fh)) },
    STATFS: { serve: (_, call) => operations.statfs(call.nodeid, call) },
    ACCESS: { serve: ({ mask }, call) => operations.access(call.nodeid, mask, call) },
    OPENDIR: {
      // The kernel may keep the listing; whether it may still use it at the next open is said by `keepCache` then
      // (kernel fs/fuse/dir.c, fuse_dir_open drops the pages without FOPEN_KEEP_CACHE).
      serve: (_, call) =>
        converted(
          operations.opendir(call.nodeid, call),
          ({ handle, keepCache }) => ({ handle, keepCache, cacheListing: true })
        ),
      vanished ({ handle }) { neverOpened(handle) }
    },
    READDIR: listing(false),
    READDIRPLUS: listing(true),
    FSYNCDIR: { isByHandle: true, serve: ({ fh }) => operations.fsyncdir(fh) },
    RELEASEDIR: {
      isByHandle: true,
      serve ({ fh }) {
        operations.releasedir(fh)
        return undefined
      }
    }
  }
}

const settled = (result: MaybePromise<void>): MaybePromise<undefined> =>
  isPromise(result) ? result.then(() => undefined) : undefined
