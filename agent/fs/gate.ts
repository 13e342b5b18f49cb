/**
 * The only way from the core to the backend. Owns two promises: a fault (a thrown error) reaches the core as EIO, and
 * after `shut` nothing is sent any more. Does not know what the calls mean.
 */
import { Errno } from '../base/errno.ts'
import { InvariantError, harmless } from '../base/errors.ts'
import type { Backend, BackendCapabilities, Found, OpenState, Stability } from './backend.ts'

type Call<K extends keyof Backend> = Backend[K] extends (...args: infer A) => unknown ? A : never

export class BackendGate implements Backend {
  readonly #backend: Backend
  #isClosed = false

  constructor (backend: Backend) { this.#backend = backend }

  get isClosed (): boolean { return this.#isClosed }
  get capabilities (): BackendCapabilities { return this.#backend.capabilities }
  get root (): Found { return this.#backend.root }
  get answers (): number { return this.#backend.answers }

  /** From now on every call answers EIO and nothing reaches the backend. */
  shut (): void { this.#isClosed = true }

  close (state: OpenState): Promise<void> | undefined {
    if (this.#isClosed) return undefined
    // close(2) has reported everything that matters before the open state is given up.
    try {
      return this.#backend.close(state)?.catch(harmless)
    } catch (error) {
      return harmless(error)
    }
  }

  open (...args: Call<'open'>): Promise<OpenState | Errno> | OpenState {
    if (this.#isClosed) return Promise.resolve(Errno.EIO)
    try {
      const opened = this.#backend.open(...args)
      return opened instanceof Promise ? opened.catch(toErrno) : opened
    } catch (error) {
      return Promise.resolve(toErrno(error))
    }
  }

  getattr (...args: Call<'getattr'>): ReturnType<Backend['getattr']> {
    return this.#pass(() => this.#backend.getattr(...args))
  }
  setattr (...args: Call<'setattr'>): ReturnType<Backend['setattr']> {
    return this.#pass(() => this.#backend.setattr(...args))
  }
  lookup (...args: Call<'lookup'>): ReturnType<Backend['lookup']> {
    return this.#pass(() => this.#backend.lookup(...args))
  }
  access (...args: Call<'access'>): ReturnType<Backend['access']> {
    return this.#pass(() => this.#backend.access(...args))
  }
  readlink (...args: Call<'readlink'>): ReturnType<Backend['readlink']> {
    return this.#pass(() => this.#backend.readlink(...args))
  }

  /* These two are called most, so they do without a closure and a list of arguments. */

  read (state: OpenState, offsetBytes: number, countBytes: number): ReturnType<Backend['read']> {
    if (this.#isClosed) return Promise.resolve(Errno.EIO)
    try {
      return this.#backend.read(state, offsetBytes, countBytes).catch(toErrno)
    } catch (error) {
      return Promise.resolve(toErrno(error))
    }
  }

  write (
    state: OpenState,
    offsetBytes: number,
    data: readonly Buffer[],
    stability: Stability
  ): ReturnType<Backend['write']> {
    if (this.#isClosed) return Promise.resolve(Errno.EIO)
    try {
      return this.#backend.write(state, offsetBytes, data, stability).catch(toErrno)
    } catch (error) {
      return Promise.resolve(toErrno(error))
    }
  }

  commit (...args: Call<'commit'>): ReturnType<Backend['commit']> {
    return this.#pass(() => this.#backend.commit(...args))
  }
  create (...args: Call<'create'>): ReturnType<Backend['create']> {
    return this.#pass(() => this.#backend.create(...args))
  }
  mkdir (...args: Call<'mkdir'>): ReturnType<Backend['mkdir']> { return this.#pass(() => this.#backend.mkdir(...args)) }
  symlink (...args: Call<'symlink'>): ReturnType<Backend['symlink']> {
    return this.#pass(() => this.#backend.symlink(...args))
  }
  mknod (...args: Call<'mknod'>): ReturnType<Backend['mknod']> { return this.#pass(() => this.#backend.mknod(...args)) }
  remove (...args: Call<'remove'>): ReturnType<Backend['remove']> {
    return this.#pass(() => this.#backend.remove(...args))
  }
  rmdir (...args: Call<'rmdir'>): ReturnType<Backend['rmdir']> { return this.#pass(() => this.#backend.rmdir(...args)) }
  rename (...args: Call<'rename'>): ReturnType<Backend['rename']> {
    return this.#pass(() => this.#backend.rename(...args))
  }
  link (...args: Call<'link'>): ReturnType<Backend['link']> { return this.#pass(() => this.#backend.link(...args)) }
  readdir (...args: Call<'readdir'>): ReturnType<Backend['readdir']> {
    return this.#pass(() => this.#backend.readdir(...args))
  }
  statfs (...args: Call<'statfs'>): ReturnType<Backend['statfs']> {
    return this.#pass(() => this.#backend.statfs(...args))
  }

  #pass<T> (call: () => Promise<T>): Promise<T | Errno> {
    if (this.#isClosed) return Promise.resolve(Errno.EIO)
    try {
      return call().catch(toErrno)
    } catch (error) {
      return Promise.resolve(toErrno(error))
    }
  }
}

function toErrno (error: unknown): Errno {
  // It must end the session, not look like a disk error: whoever answers the request, or nobody, sees to that.
  if (error instanceof InvariantError) throw error
  return Errno.EIO
}
