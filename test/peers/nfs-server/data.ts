/**
 * Procedures that move data: READ, WRITE, COMMIT (RFC 1813 sections 3.3.6, 3.3.7, 3.3.21).
 * Owns their grammar and the stability they promise. File work is asynchronous: a megabyte must not hold up other
 * calls.
 */
import { fdatasync, read, write } from 'node:fs'
import { encodePostOp, encodeWcc } from './attributes.ts'
import { findArgument } from './objects.ts'
import { NfsFailure } from './status.ts'
import type { Procedure } from './procedure.ts'

type Done = (error: Error | null, bytes?: number) => void

const settle = async (start: (done: Done) => void): Promise<number> =>
  await new Promise((resolve, reject) => {
    start((error, bytes) => {
      if (error === null) resolve(bytes ?? 0)
      else reject(error)
    })
  })

const sync = async (fd: number): Promise<void> => { await settle((done) => { fdatasync(fd, done) }) }

async function writeAll (fd: number, data: Buffer, offset: number): Promise<void> {
  for (let at = 0; at < data.length;) {
    at += await settle((done) => { write(fd, data, at, data.length - at, offset + at, done) })
  }
}

export const dataProcedures = {
  READ: {
    number: 6,
    failWords: 1,
    run: async (input, call) => {
      const found = findArgument(input, call)
      const offset = input.size64()
      const asked = Math.min(input.uint32(), call.offer.readBytesMax, call.verdict.bytesMax ?? Infinity)
      return await call.tree.withFile(found, async (fd) => {
        const available = Math.max(0, Math.min(asked, Number(found.stats.size) - offset))
        const data = Buffer.allocUnsafeSlow(available)
        let bytes = 0
        while (bytes < available) {
          const got = await settle((done) => { read(fd, data, bytes, available - bytes, offset + bytes, done) })
          if (got === 0) break
          bytes += got
        }
        const after = call.tree.statsOf(fd)
        return (out) => {
          encodePostOp(out, after)
          out.uint32(bytes)
          out.bool(BigInt(offset + bytes) >= after.size)
          out.payload([data.subarray(0, bytes)], call.offer.readBytesMax)
        }
      })
    }
  },
  WRITE: {
    number: 7,
    failWords: 2,
    run: async (input, call) => {
      const found = findArgument(input, call)
      const offset = input.size64()
      const count = input.uint32()
      const stable = input.uint32()
      const sent = input.opaque(call.offer.writeBytesMax)
      if (count !== sent.length || stable > 2) throw new NfsFailure('INVAL')
      const data = sent.subarray(0, call.verdict.bytesMax ?? count)
      return await call.tree.withFile(found, async (fd) => {
        call.unstable.note(found.object, fd, offset, data.length)
        await writeAll(fd, data, offset)
        if (stable !== 0) {
          await sync(fd)
          call.unstable.commit(found.object)
        }
        const after = call.tree.statsOf(fd)
        return (out) => {
          encodeWcc(out, found.stats, after)
          out.uint32(data.length)
          out.uint32(call.verdict.committed ?? (stable === 0 ? 0 : 2))
          out.fixed(call.verdict.verifier ?? call.verifier)
        }
      })
    }
  },
  COMMIT: {
    number: 21,
    failWords: 2,
    run: async (input, call) => {
      const found = findArgument(input, call)
      input.uint64()
      input.uint32()
      return await call.tree.withFile(found, async (fd) => {
        await sync(fd)
        call.unstable.commit(found.object)
        const after = call.tree.statsOf(fd)
        return (out) => {
          encodeWcc(out, found.stats, after)
          out.fixed(call.verdict.verifier ?? call.verifier)
        }
      })
    }
  }
} as const satisfies Record<string, Procedure>
