/**
 * What the compiler was asked to guard is guarded in the addon that was built: it runs as root in every process of
 * ours. Owns the list. Reads the ELF file with readelf and objdump; does not know how it was built.
 */
import { execFileSync } from 'node:child_process'
import process from 'node:process'

/** What `readelf` and `objdump -d` say of one file. */
export interface Listing {
  readonly headers: string
  readonly dynamic: string
  readonly symbols: string
  readonly code: string
}

/** A page: a frame that is larger and not probed page by page can step over the guard page below the stack. */
const guardBytes = 4096

function unprobedFrames ({ code }: Listing): boolean {
  return [...code.matchAll(/\bsub\s+\$0x([0-9a-f]+),%rsp/g)].some(([, bytes = '']) =>
    Number.parseInt(bytes, 16) > guardBytes
  ) ||
    [...code.matchAll(/\bsub\s+sp, sp, #0x([0-9a-f]+)(, lsl #12)?/g)].some(([, bytes = '', shifted]) =>
      Number.parseInt(bytes, 16) * (shifted === undefined ? 1 : guardBytes) > 16 * guardBytes
    )
}

/** Each is true of a file that is as it should be. */
const guards: Readonly<Record<string, (listing: Listing) => boolean>> = {
  'relocations read-only (-z relro)': ({ headers }) => /GNU_RELRO/.test(headers),
  'symbols bound at once (-z now)': ({ dynamic }) => /BIND_NOW|\bNOW\b/.test(dynamic),
  'no executable stack': ({ headers }) => /GNU_STACK .*\bRW +0x/.test(headers),
  'stack protector (-fstack-protector-strong)': ({ symbols }) => /__stack_chk_fail/.test(symbols),
  'checked buffers (_FORTIFY_SOURCE)': ({ symbols }) => /UND __\w+_chk\b/.test(symbols),
  'checked jumps (-fcf-protection, -mbranch-protection)': ({ code }) =>
    /<napi_register_module_v1[^>]*>:\n[^\n]*\b(endbr64|paciasp|bti)\b/.test(code),
  'stack probed page by page (-fstack-clash-protection)': (listing) => !unprobedFrames(listing)
}

export const hardeningComplaints = (file: string, listing: Listing): string[] =>
  Object.entries(guards).filter(([, holds]) => !holds(listing)).map(([guard]) => `${file}: not built with ${guard}`)

function listingOf (file: string): Listing {
  const told = (program: string, ...args: readonly string[]): string =>
    execFileSync(program, [...args, file], { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
  return {
    headers: told('readelf', '--program-headers', '--wide'), dynamic: told('readelf', '--dynamic', '--wide'),
    symbols: told('readelf', '--dyn-syms', '--wide'), code: told('objdump', '--disassemble', '--no-show-raw-insn')
  }
}

if (import.meta.main) {
  const files = process.argv.slice(2)
  const complaints = files.flatMap((file) => hardeningComplaints(file, listingOf(file)))
  for (const complaint of complaints) console.error(complaint)
  process.exitCode = complaints.length === 0 && files.length > 0 ? 0 : 1
}
