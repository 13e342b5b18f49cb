/**
 * The Huffman code of HPACK, RFC 7541 section 5.2 and appendix B: bytes → text, and nothing back (we send plain
 * strings).
 *
 * Owns the code. It is canonical (within one length, codes rise with the symbol), so the lengths say everything.
 * Does not know headers. Text here is latin1: one character is one byte.
 */
import { WireError } from '../../base/errors.ts'

/** Bits of the code of each byte; the 257th symbol, EOS, has 30. */
const codeLengths = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
  28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22,
  23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23,
  22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
  27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
  27, 27, 26,
  30
]
const endOfString = 256
const longestBits = 30

interface Length { readonly first: number, readonly symbols: readonly number[] }

/** For each length its first code and its symbols in order. */
const lengths: readonly Length[] = (() => {
  const found: Length[] = []
  for (let bits = 0, next = 0; bits <= longestBits; bits++) {
    const symbols = codeLengths.flatMap((length, symbol) => length === bits ? [symbol] : [])
    found.push({ first: next, symbols })
    next = (next + symbols.length) * 2
  }
  return found
})()

/** @throws WireError for a code that is none, an EOS inside, or padding that is not the beginning of EOS. */
export function decodeHuffman (coded: Buffer): string {
  // Five bits are the shortest code: a string grows to 1.6 times its bytes at most.
  const text: number[] = []
  let code = 0
  let bits = 0
  for (const byte of coded) {
    for (let shift = 7; shift >= 0; shift--) {
      code = code * 2 + (byte >> shift & 1)
      bits++
      const { first, symbols } = lengths[bits] ?? { first: 0, symbols: [] }
      const symbol = symbols[code - first]
      if (symbol === undefined && bits < longestBits) continue
      if (symbol === undefined || symbol === endOfString) {
        throw new WireError('INVALID', 'HPACK: end of string inside a Huffman string')
      }
      text.push(symbol)
      code = 0
      bits = 0
    }
  }
  if (bits > 7 || code !== 2 ** bits - 1) throw new WireError('INVALID', 'HPACK: wrong padding of a Huffman string')
  return Buffer.from(text).toString('latin1')
}
