/**
 * Copying and checking a tree, with what it took.
 * Owns the walk, a bounded number of files at work at once, and checksums. Does not know what is mounted.
 */
import { createHash } from 'node:crypto'
import { lstat, mkdir, open, readFile, readdir, readlink, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'

export interface TreeEntry { readonly path: string, readonly kind: 'file' | 'folder' | 'link', readonly bytes: number }
export interface Work {
  readonly files: number
  readonly folders: number
  readonly links: number
  readonly bytes: number
  readonly seconds: number
}
/** Told after each entry or block. What it throws ends the work, once everything under way is over. */
export type Progress = (done: number, total: number, bytes: number) => void

const atOnce = 8

/** Folders before what is in them, names in order, nothing that `skip` names. */
export async function walk (root: string, skip: ReadonlySet<string>): Promise<readonly TreeEntry[]> {
  const found: TreeEntry[] = []
  const into = async (below: string): Promise<void> => {
    const entries = await readdir(path.join(root, below), { withFileTypes: true })
    for (const entry of entries.sort((a, b) => a.name < b.name ? -1 : 1)) {
      const name = path.join(below, entry.name)
      if (skip.has(name)) continue
      if (entry.isDirectory()) {
        found.push({ path: name, kind: 'folder', bytes: 0 })
        await into(name)
      } else if (entry.isSymbolicLink()) {
        found.push({ path: name, kind: 'link', bytes: 0 })
      } else if (entry.isFile()) {
        found.push({ path: name, kind: 'file', bytes: (await lstat(path.join(root, name))).size })
      }
    }
  }
  await into('')
  return found
}

async function inParallel (
  entries: readonly TreeEntry[],
  work: (entry: TreeEntry) => Promise<void>,
  progress: Progress
): Promise<void> {
  let next = 0
  let done = 0
  let bytes = 0
  const worker = async (): Promise<void> => {
    for (let entry = entries[next++]; entry !== undefined; entry = entries[next++]) {
      await work(entry)
      done += 1
      bytes += entry.bytes
      progress(done, entries.length, bytes)
    }
  }
  const workers = await Promise.allSettled(Array.from({ length: atOnce }, worker))
  for (const { status, ...rest } of workers) if (status === 'rejected' && 'reason' in rest) throw rest.reason
}

function summary (entries: readonly TreeEntry[], startMs: number): Work {
  const count = (kind: TreeEntry['kind']): number => entries.filter((entry) => entry.kind === kind).length
  return {
    files: count('file'), folders: count('folder'), links: count('link'),
    bytes: entries.reduce((sum, entry) => sum + entry.bytes, 0), seconds: (performance.now() - startMs) / 1000
  }
}

export async function copyTree (
  from: string,
  to: string,
  entries: readonly TreeEntry[],
  progress: Progress
): Promise<Work> {
  const startMs = performance.now()
  await mkdir(to, { recursive: true })
  for (const entry of entries) if (entry.kind === 'folder') await mkdir(path.join(to, entry.path))
  await inParallel(entries.filter((entry) => entry.kind !== 'folder'), async (entry) => {
    const source = path.join(from, entry.path)
    const target = path.join(to, entry.path)
    if (entry.kind === 'link') await symlink(await readlink(source), target)
    else await writeFile(target, await readFile(source), { mode: (await lstat(source)).mode & 0o777 })
  }, progress)
  return summary(entries, startMs)
}

export interface Comparison extends Work { readonly different: readonly string[], readonly checksum: string }

/** Reads both trees and compares names, link targets and SHA-256 of every file; `checksum` is over all of it, in
 * order. */
export async function compareTrees (
  left: string,
  right: string,
  entries: readonly TreeEntry[],
  skip: ReadonlySet<string>,
  progress: Progress
): Promise<Comparison> {
  const digest = async (root: string, entry: TreeEntry): Promise<string> => {
    if (entry.kind === 'folder') return 'folder'
    const at = path.join(root, entry.path)
    return entry.kind === 'link' ? await readlink(at) : createHash('sha256').update(await readFile(at)).digest('hex')
  }
  const expected = new Map<string, string>()
  await inParallel(entries, async (entry) => { expected.set(entry.path, await digest(left, entry)) }, progress)
  const startMs = performance.now()
  const there = await walk(right, skip)
  const got = new Map<string, string>()
  await inParallel(there, async (entry) => { got.set(entry.path, await digest(right, entry)) }, progress)
  const different = [...new Set([...expected.keys(), ...got.keys()])].filter((name) =>
    expected.get(name) !== got.get(name)
  )
  const all = createHash('sha256')
  for (const entry of there) all.update(`${entry.path}\0${got.get(entry.path) ?? ''}\n`)
  return { ...summary(there, startMs), different, checksum: all.digest('hex').slice(0, 16) }
}

export interface Stream { readonly bytes: number, readonly writeSeconds: number, readonly readSeconds: number }

/** One large file: written and fsynced through one folder, read back through another. */
export async function stream (writeAt: string, readAt: string, bytes: number, progress: Progress): Promise<Stream> {
  const block = Buffer.alloc(1024 * 1024)
  const blocks = bytes / block.length
  const written = createHash('sha256')
  let startMs = performance.now()
  const out = await open(writeAt, 'wx')
  try {
    for (let index = 0; index < blocks; index += 1) {
      block.writeUInt32LE(index, 0)
      written.update(block.subarray(0, 4))
      await out.write(block)
      progress(index + 1, 2 * blocks, (index + 1) * block.length)
    }
    await out.sync()
  } finally {
    await out.close()
  }
  const writeSeconds = (performance.now() - startMs) / 1000
  startMs = performance.now()
  const read = createHash('sha256')
  const input = await open(readAt, 'r')
  try {
    for (let index = 0; index < blocks; index += 1) {
      const { bytesRead } = await input.read(block, 0, block.length, index * block.length)
      if (bytesRead !== block.length) throw new Error(`read ${bytesRead} of ${block.length} bytes at block ${index}`)
      read.update(block.subarray(0, 4))
      progress(blocks + index + 1, 2 * blocks, (index + 1) * block.length)
    }
  } finally {
    await input.close()
  }
  const readSeconds = (performance.now() - startMs) / 1000
  if (read.digest('hex') !== written.digest('hex')) throw new Error('the large file read back is not what was written')
  return { bytes, writeSeconds, readSeconds }
}
