/**
 * The programs around NFS: MOUNT v3 (RFC 1813 appendix I) and the portmapper v2 (RFC 1833), which answers with this
 * server's own port. Owns both. There is one export; its name need not be the folder's path.
 */
import type { XdrWriter } from '../../../proto/xdr/writer.ts'
import { fileHandleBytesMax, pathBytesMax, type Procedure } from './procedure.ts'
import { NfsFailure } from './status.ts'

export const PROGRAMS = { PORTMAP: 100000, NFS: 100003, MOUNT: 100005 } as const

const AUTH_SYS = 1

export const mountProcedures = {
  NULL: { number: 0, failWords: 0, bare: true, run: () => () => {} },
  MNT: {
    number: 1,
    failWords: 0,
    run: (input, call) => {
      const path = input.latin1(pathBytesMax).replace(/(?<=.)\/+$/, '')
      if (path !== call.share && !path.startsWith(call.share === '/' ? '/' : `${call.share}/`)) {
        throw new NfsFailure('NOENT')
      }
      let found = call.tree.find(call.tree.root.handle)
      for (const name of path.slice(call.share.length).split('/').filter((part) => part !== '')) {
        if (name === '..') throw new NfsFailure('ACCES')
        found = call.tree.child(found, name)
        if (!found.stats.isDirectory()) throw new NfsFailure('NOTDIR')
      }
      return (out) => {
        out.opaque(found.object.handle, fileHandleBytesMax)
        const flavours = call.verdict.flavours ?? [AUTH_SYS]
        out.uint32(flavours.length)
        for (const flavour of flavours) out.uint32(flavour)
      }
    }
  },
  DUMP: { number: 2, failWords: 0, bare: true, run: () => (out) => { out.bool(false) } },
  UMNT: {
    number: 3,
    failWords: 0,
    bare: true,
    run: (input) => {
      input.latin1(pathBytesMax)
      return () => {}
    }
  },
  UMNTALL: { number: 4, failWords: 0, bare: true, run: () => () => {} },
  EXPORT: {
    number: 5,
    failWords: 0,
    bare: true,
    run: (_input, call) => (out) => {
      out.bool(true)
      out.latin1(call.share, pathBytesMax)
      out.bool(false)
      out.bool(false)
    }
  }
} as const satisfies Record<string, Procedure>

const TCP = 6

export const portmapProcedures = {
  NULL: { number: 0, failWords: 0, bare: true, run: () => () => {} },
  GETPORT: {
    number: 3,
    failWords: 0,
    bare: true,
    run: (input, call) => {
      const [program, , protocol] = [input.uint32(), input.uint32(), input.uint32(), input.uint32()]
      const isOurs = protocol === TCP && Object.values<number>(PROGRAMS).includes(program)
      return (out) => { out.uint32(isOurs ? call.port : 0) }
    }
  },
  DUMP: {
    number: 4,
    failWords: 0,
    bare: true,
    run: (_input, call) => (out) => {
      const row = (inner: XdrWriter, program: number, version: number): void => {
        inner.bool(true)
        for (const word of [program, version, TCP, call.port]) inner.uint32(word)
      }
      row(out, PROGRAMS.PORTMAP, 2)
      row(out, PROGRAMS.NFS, 3)
      row(out, PROGRAMS.MOUNT, 3)
      out.bool(false)
    }
  }
} as const satisfies Record<string, Procedure>
