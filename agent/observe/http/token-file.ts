/**
 * A bearer token that lies in a file of root's.
 *
 * Owns which file is believed and how a token is compared. The file is read anew for each request, so that a new token
 * counts at once; the token itself goes nowhere else. Does not know HTTP.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { VolumeError, messageOf } from '../../base/errors.ts'
import type { Judge } from './authorization.ts'

/** A Kubernetes token has some 1,500 bytes. */
const fileBytesMax = 8192
/** 96 bits as base64. What is shorter can be tried out. */
const tokenLengthMin = 16

const field = '--http-token-file'

function refuse (file: string, why: string, remedy: string): never {
  throw new VolumeError('INVALID', `${field}: ${JSON.stringify(file)} ${why}`, { field, remedy })
}

/** From look to read one descriptor; a FIFO or device in its place keeps nobody waiting. */
function readOwn (file: string): string {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY)
  try {
    const facts = fstatSync(fd)
    if (!facts.isFile()) refuse(file, 'is not a regular file', 'give a file')
    if (facts.uid !== process.geteuid?.()) refuse(file, `belongs to uid ${facts.uid}`, 'chown 0:0 it')
    if ((facts.mode & 0o077) !== 0) {
      refuse(file, `can be used by others (mode ${(facts.mode & 0o777).toString(8)})`, 'chmod 0600 it')
    }
    if (facts.size > fileBytesMax) refuse(file, `has ${facts.size} bytes`, `at most ${fileBytesMax} are read`)
    const bytes = Buffer.alloc(fileBytesMax)
    return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, 0))
  } finally {
    closeSync(fd)
  }
}

/** The token, without the line's end. @throws VolumeError INVALID that never quotes it. */
export function readToken (file: string): string {
  let text: string
  try {
    text = readOwn(file)
  } catch (error) {
    if (error instanceof VolumeError) throw error
    return refuse(file, `cannot be read: ${messageOf(error)}`, 'make it: openssl rand -hex 32, mode 0600')
  }
  const token = text.trim()
  if (!/^[\x21-\x7e]+$/.test(token)) {
    refuse(file, 'holds no token (one line, no spaces)', 'openssl rand -hex 32 makes one')
  }
  if (token.length < tokenLengthMin) {
    refuse(file, `holds a token of ${token.length} characters`, `use at least ${tokenLengthMin}: openssl rand -hex 32`)
  }
  return token
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest()

/** @throws VolumeError INVALID when the file is not fit now. */
export function tokenFileJudge (file: string): Judge {
  readToken(file)
  return async (token) => timingSafeEqual(digest(token), digest(readToken(file))) ? 'allowed' : 'unknown'
}
