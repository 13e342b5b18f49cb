/**
 * The journal: one small file per record, replaced whole. Owns its format, version and checksum.
 * Does not know what records mean.
 *
 * One file each, not one log: a damaged file costs one record, there is nothing to compact, and two volumes never wait
 * for each other's fsync.
 */
import { createHash } from 'node:crypto'
import { readFile, readdir, rename, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '../../base/errors.ts'
import { isCode, makePrivateFolder, mayBeLeftOver, removeFileDurably, writeFileDurably } from '../../host/files.ts'
import { recordId, type JournalRecord } from './records.ts'

export const journalVersion = 1
const suffix = '.json'
const asideSuffix = '.damaged'

export interface DamagedRecord {
  readonly file: string
  readonly reason: string
}

export interface Journal {
  /** Durable when it returns; replaces the record with the same id. */
  put (record: JournalRecord): Promise<void>
  drop (id: string): Promise<void>
  load (): Promise<{ readonly records: readonly JournalRecord[], readonly damaged: readonly DamagedRecord[] }>
}

export class FileJournal implements Journal {
  readonly #folder: string

  constructor (folder: string) {
    this.#folder = folder
  }

  async put (record: JournalRecord): Promise<void> {
    await writeFileDurably(join(this.#folder, `${recordId(record)}${suffix}`), formatRecord(record))
  }

  async drop (id: string): Promise<void> {
    await removeFileDurably(join(this.#folder, `${id}${suffix}`))
  }

  /** Reads all records. A file that is not understood is set aside under another name and told, never guessed at and
   * never deleted. */
  async load (): Promise<{ records: JournalRecord[], damaged: DamagedRecord[] }> {
    await makePrivateFolder(this.#folder)
    const records: JournalRecord[] = []
    const damaged: DamagedRecord[] = []
    for (const name of (await readdir(this.#folder)).sort()) {
      const path = join(this.#folder, name)
      if (mayBeLeftOver(name)) {
        await unlink(path)
      } else if (name.endsWith(suffix)) {
        const result = await this.#read(path, name)
        if ('record' in result) records.push(result.record)
        else damaged.push({ file: path, reason: result.reason })
      }
    }
    return { records, damaged }
  }

  async #read (path: string, name: string): Promise<{ record: JournalRecord } | { reason: string }> {
    try {
      const record = parseRecord(await readFile(path, 'utf8'))
      if (`${recordId(record)}${suffix}` !== name) throw new Error('the record belongs under another name')
      return { record }
    } catch (error) {
      const aside = `${path}${asideSuffix}`
      await rename(path, aside).catch((problem: unknown) => { if (!isCode(problem, 'ENOENT')) throw problem })
      return { reason: `${messageOf(error)}; set aside as ${aside}` }
    }
  }
}

/** What can be read of a journal without being its agent: nothing is set aside or removed. Missing is empty. */
export async function peekJournal (folder: string): Promise<readonly JournalRecord[]> {
  const names = await readdir(folder).catch((error: unknown): string[] => {
    if (isCode(error, 'ENOENT')) return []
    throw error
  })
  const records = await Promise.all(
    names.filter((name) => name.endsWith(suffix)).map(async (name): Promise<JournalRecord[]> => {
      try {
        return [parseRecord(await readFile(join(folder, name), 'utf8'))]
      } catch {
        // Removed in between, or damaged: its agent tells that.
        return []
      }
    })
  )
  return records.flat()
}

/** header line (version, SHA-256 of the body) and body line. */
export function formatRecord (record: JournalRecord): string {
  const body = JSON.stringify(record)
  return `${JSON.stringify({ volbridge: journalVersion, sha256: sumOf(body) })}\n${body}\n`
}

/** @throws Error saying what is wrong. */
export function parseRecord (text: string): JournalRecord {
  const [head = '', body = '', rest] = text.split('\n')
  if (rest !== '') throw new Error('the record is cut off or has something behind it')
  const header: unknown = JSON.parse(head)
  if (!isObject(header) || typeof header['volbridge'] !== 'number') throw new Error('the header is not understood')
  if (header['volbridge'] > journalVersion) {
    throw new Error(`the record was written by a newer version (format ${header['volbridge']})`)
  }
  if (header['sha256'] !== sumOf(body)) throw new Error('the checksum does not match')
  const record: unknown = JSON.parse(body)
  if (!isRecord(record)) throw new Error('the record is of an unknown kind')
  return record
}

const sumOf = (body: string): string => createHash('sha256').update(body).digest('hex')
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

/** Under a right checksum and a known version the body is one we wrote; this tells the kinds apart. */
function isRecord (value: unknown): value is JournalRecord {
  if (!isObject(value) || typeof value['key'] !== 'string' || typeof value['phase'] !== 'string') return false
  if (value['kind'] === 'mount') return isObject(value['facts']) && isObject(value['spec'])
  if (value['kind'] === 'loss') return typeof value['bytes'] === 'number' && typeof value['at'] === 'string'
  return value['kind'] === 'bind' && typeof value['path'] === 'string' && typeof value['volume'] === 'string'
}
