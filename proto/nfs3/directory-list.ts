/**
 * The linked list of entries that READDIR and READDIRPLUS answer with, RFC 1813 sections 3.3.16 and 3.3.17.
 *   dirlist => (value_follows:1 entry)* value_follows:0 eof:bool
 *
 * Owns the loop. The record bounds the number of entries: each takes at least 24 bytes of it.
 */
import type { XdrReader } from '../xdr/reader.ts'

export interface DirectoryList<E> { readonly entries: readonly E[], readonly eof: boolean }

export function decodeDirectoryList<E> (input: XdrReader, decodeEntry: (input: XdrReader) => E): DirectoryList<E> {
  const entries: E[] = []
  while (input.bool()) entries.push(decodeEntry(input))
  return { entries, eof: input.bool() }
}
