/**
 * Our side of the transport benchmark: one mount, names that never exist, one endless file.
 * Owns nothing but the shortest answers; everything between them and the kernel is the product's code. Ends when its
 * stdin does.
 */
import { Errno } from '../../../agent/base/errno.ts'
import { setReadAhead } from '../../../agent/host/fuse-connection.ts'
import type { FileData } from '../../../agent/fs/operations.ts'
import { MemoryFilesystem } from '../../peers/memory-filesystem.ts'
import { mountMemory } from '../../semantics/fuse/mounted.ts'

const fileBytes = Number(process.argv[2])
const pattern = Buffer.alloc(1024 * 1024, 'volbridge')

/** The file is the pattern again and again. */
function pieces (start: number, bytes: number): Buffer[] {
  const first = pattern.subarray(start, start + bytes)
  return first.length === bytes ? [first] : [first, pattern.subarray(0, bytes - first.length)]
}

class Shortest extends MemoryFilesystem {
  override lookup (...[parent, name, caller]: Parameters<MemoryFilesystem['lookup']>): ReturnType<
    MemoryFilesystem['lookup']
  > {
    return name.startsWith('missing') ? Errno.ENOENT : super.lookup(parent, name, caller)
  }

  override read (_handle: number, offsetBytes: number, countBytes: number): FileData {
    const bytes = Math.max(0, Math.min(countBytes, fileBytes - offsetBytes))
    return { parts: bytes === 0 ? [] : pieces(offsetBytes % pattern.length, bytes), bytes, release () {} }
  }
}

const filesystem = new Shortest({ ttlMs: 60_000 })
for (let index = 0; index < 3; index++) filesystem.plant(`file-${index}`, Buffer.alloc(0)).sizeBytes = fileBytes
const mount = await mountMemory(filesystem)
await setReadAhead(mount.device, 4096)
process.stdout.write(`${mount.path}\n`)
process.stdin.resume()
process.stdin.on('end', () => {
  mount.close().then(() => { process.exitCode = 0 }, (error: unknown) => { process.stderr.write(`${String(error)}\n`) })
})
