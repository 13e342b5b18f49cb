// The same two answers through npm fuse-native 2.2.6. Arguments: folder of its node_modules, mount point, file size. Ends when its stdin does.
'use strict'
const { createRequire } = require('node:module')
const [, , packages, mountPoint, size] = process.argv
const Fuse = createRequire(`${packages}/`)('fuse-native')

const fileBytes = Number(size)
const pattern = Buffer.alloc(1024 * 1024, 'volbridge')
const time = new Date()
const facts = (mode, bytes) => ({ mtime: time, atime: time, ctime: time, nlink: 1, size: bytes, mode, uid: 0, gid: 0 })
const operations = {
  getattr (path, answer) {
    if (path === '/') return answer(0, facts(0o40755, 0))
    if (path.startsWith('/file-')) return answer(0, facts(0o100644, fileBytes))
    return answer(Fuse.ENOENT)
  },
  open (path, flags, answer) { answer(0, 42) },
  read (path, fd, buffer, length, position, answer) {
    const bytes = Math.max(0, Math.min(length, fileBytes - position))
    const start = position % pattern.length
    pattern.copy(buffer, 0, start, Math.min(start + bytes, pattern.length))
    answer(bytes)
  },
  release (path, fd, answer) { answer(0) }
}
const fuse = new Fuse(mountPoint, operations, { force: true, mkdir: true, maxRead: 131072, bigWrites: true })
fuse.mount((error) => {
  if (error) throw error
  process.stdout.write(`${mountPoint}\n`)
})
process.stdin.resume()
// Its own unmount wants fusermount; whoever started this takes the mount away.
process.stdin.on('end', () => { process.exit(0) })
