/**
 * Header blocks of HTTP/2 (RFC 7541): decoded with the sender's dynamic table, encoded without using one.
 *
 * Owns the tables and the bounds. Does not know frames or what a header means. Names and values are latin1: one
 * character is one byte.
 *
 * What we send refers to nothing and adds nothing: the receiver's dynamic table stays empty, so the two tables cannot
 * drift apart whatever is rewritten between them. It costs a few hundred bytes a call on a socket inside one machine.
 */
import { WireError } from '../../base/errors.ts'
import { decodeHuffman } from './huffman.ts'

export interface HeaderField {
  readonly name: string
  readonly value: string
  /** The sender asks that nobody on the way puts it into a table (section 7.1.3). */
  readonly neverIndexed: boolean
}

export interface HeaderBlock {
  /** New sizes of the dynamic table, at the block's beginning. Passed on: a receiver that reduced its own size waits
   * for one. */
  readonly tableSizes: readonly number[]
  readonly fields: readonly HeaderField[]
}

/** What our HTTP/2 server announces: SETTINGS_HEADER_TABLE_SIZE is left at its default. */
export const tableBytesMax = 4096
/** Names, values and 32 bytes a field (RFC 9113 section 6.5.2). Node's HTTP/2 takes no more; one byte of a block may
 * stand for 4 KiB. */
export const headerListBytesMax = 65_536
/** RFC 7541 section 4.1. */
const entryOverheadBytes = 32

/** Appendix A; the position is the index. A name without "=" has an empty value. */
const staticTable = [
  '', ':authority', ':method=GET', ':method=POST', ':path=/', ':path=/index.html', ':scheme=http', ':scheme=https',
  ':status=200', ':status=204',
  ':status=206', ':status=304', ':status=400', ':status=404', ':status=500', 'accept-charset',
  'accept-encoding=gzip, deflate', 'accept-language',
  'accept-ranges', 'accept', 'access-control-allow-origin', 'age', 'allow', 'authorization', 'cache-control',
  'content-disposition',
  'content-encoding', 'content-language', 'content-length', 'content-location', 'content-range', 'content-type',
  'cookie', 'date', 'etag', 'expect',
  'expires', 'from', 'host', 'if-match', 'if-modified-since', 'if-none-match', 'if-range', 'if-unmodified-since',
  'last-modified', 'link',
  'location', 'max-forwards', 'proxy-authenticate', 'proxy-authorization', 'range', 'referer', 'refresh', 'retry-after',
  'server', 'set-cookie',
  'strict-transport-security', 'transfer-encoding', 'user-agent', 'vary', 'via', 'www-authenticate'
].map((entry) => {
  const [name = '', value = ''] = entry.split('=')
  return { name, value }
})

interface Entry { readonly name: string, readonly value: string }
const bytesOf = ({ name, value }: Entry): number => name.length + value.length + entryOverheadBytes

/** Reads one block; every read is checked against its end. */
class BlockReader {
  readonly #bytes: Buffer
  #at = 0

  constructor (bytes: Buffer) { this.#bytes = bytes }

  get isAtEnd (): boolean { return this.#at >= this.#bytes.length }

  peek (): number {
    const byte = this.#bytes[this.#at]
    if (byte === undefined) throw new WireError('TRUNCATED', 'HPACK: the header block ends too early')
    return byte
  }

  /** Section 5.1. Values beyond 2^28 serve nothing here and are refused before they can overflow. */
  integer (prefixBits: number): number {
    const mask = 2 ** prefixBits - 1
    let value = this.peek() & mask
    this.#at++
    if (value < mask) return value
    for (let shift = 0;; shift += 7) {
      const byte = this.peek()
      this.#at++
      if (shift > 21) throw new WireError('OVERLONG', 'HPACK: an integer is too large')
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
  }

  /** Section 5.2. */
  string (): string {
    const isHuffman = (this.peek() & 0x80) !== 0
    const length = this.integer(7)
    const end = this.#at + length
    if (end > this.#bytes.length) throw new WireError('TRUNCATED', 'HPACK: a string ends after its header block')
    const bytes = this.#bytes.subarray(this.#at, end)
    this.#at = end
    return isHuffman ? decodeHuffman(bytes) : bytes.toString('latin1')
  }
}

export class HpackDecoder {
  /** The newest is last. */
  readonly #entries: Entry[] = []
  #bytes = 0
  #bytesMax = tableBytesMax

  /** @throws WireError; the connection is then unusable, for the table may be half changed. */
  decode (block: Buffer): HeaderBlock {
    const reader = new BlockReader(block)
    const tableSizes: number[] = []
    const fields: HeaderField[] = []
    let listBytes = 0
    while (!reader.isAtEnd) {
      if ((reader.peek() & 0xe0) === 0x20) {
        if (fields.length > 0) throw new WireError('INVALID', 'HPACK: a table size update after a header field')
        tableSizes.push(this.#resize(reader.integer(5)))
        continue
      }
      const field = this.#field(reader)
      listBytes += bytesOf(field)
      if (listBytes > headerListBytesMax) {
        throw new WireError('OVERLONG', `HPACK: more than ${headerListBytesMax} bytes of headers`)
      }
      fields.push(field)
    }
    return { tableSizes, fields }
  }

  /** Section 6: which representation it is shows in the first bits. */
  #field (reader: BlockReader): HeaderField {
    const first = reader.peek()
    if (first >= 0x80) return { ...this.#entry(reader.integer(7)), neverIndexed: false }
    const isIndexed = first >= 0x40
    const index = reader.integer(isIndexed ? 6 : 4)
    const name = index === 0 ? reader.string() : this.#entry(index).name
    const field = { name, value: reader.string(), neverIndexed: (first & 0xf0) === 0x10 }
    if (isIndexed) this.#add(field)
    return field
  }

  #entry (index: number): Entry {
    const entry = index < staticTable.length ? staticTable[index] : this.#entries.at(staticTable.length - 1 - index)
    if (entry === undefined || index === 0) throw new WireError('INVALID', `HPACK: no entry has the index ${index}`)
    return entry
  }

  /** Section 4.4: an entry larger than the table empties it and is no error. */
  #add ({ name, value }: Entry): void {
    const entry = { name, value }
    this.#bytes += bytesOf(entry)
    this.#entries.push(entry)
    this.#evict()
  }

  #resize (bytesMax: number): number {
    if (bytesMax > tableBytesMax) {
      throw new WireError('INVALID', `HPACK: a table of ${bytesMax} bytes, and ${tableBytesMax} were offered`)
    }
    this.#bytesMax = bytesMax
    this.#evict()
    return bytesMax
  }

  #evict (): void {
    let count = 0
    for (; this.#bytes > this.#bytesMax; count++) {
      this.#bytes -= bytesOf(this.#entries[count] ?? { name: '', value: '' })
    }
    // At most 128 entries fit (4096 / 32).
    this.#entries.splice(0, count)
  }
}

function encodeInteger (value: number, prefixBits: number, flags: number): number[] {
  const mask = 2 ** prefixBits - 1
  if (value < mask) return [flags | value]
  const bytes = [flags | mask]
  let rest = value - mask
  for (; rest >= 0x80; rest >>>= 7) bytes.push(rest & 0x7f | 0x80)
  return [...bytes, rest]
}

const encodeString = (text: string): Buffer =>
  Buffer.concat([Buffer.from(encodeInteger(text.length, 7, 0)), Buffer.from(text, 'latin1')])

/** Literals without indexing (section 6.2.2), or never indexed where the sender said so (6.2.3). */
export function encodeBlock ({ tableSizes, fields }: HeaderBlock): Buffer {
  return Buffer.concat([
    Buffer.from(tableSizes.flatMap((bytes) => encodeInteger(bytes, 5, 0x20))),
    ...fields.flatMap(
      ({ name, value, neverIndexed }) => [Buffer.of(neverIndexed ? 0x10 : 0), encodeString(name), encodeString(value)]
    )
  ])
}
