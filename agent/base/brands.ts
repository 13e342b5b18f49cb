/**
 * Branded primitives: a raw string or number crosses no folder border.
 * Owns the types and their checked constructors. Does not know where values come from.
 */
import { VolumeError } from './errors.ts'

declare const brand: unique symbol
type Branded<T, B extends string> = T & { readonly [brand]: B }

/** A file name: the bytes of one path component, decoded as latin1 (lossless, usable as a Map key). Show it with
 * `showName`. */
export type FileName = Branded<string, 'FileName'>
/** An absolute, normalised path without `..`, `.` or a trailing slash. */
export type AbsolutePath = Branded<string, 'AbsolutePath'>
/** The id a CO gave to a volume (CSI volume_id; for Flex and hand mounts our own). */
export type VolumeId = Branded<string, 'VolumeId'>
/** Identity of a staged mount: equal keys share one session. Lower-case hex. */
export type StageKey = Branded<string, 'StageKey'>
/** `major:minor` as in /proc/self/mountinfo field 3. */
export type DeviceNumber = Branded<string, 'DeviceNumber'>

export const toFileName = (latin1: string): FileName => latin1 as FileName
export const fileNameOfBytes = (bytes: Buffer): FileName => bytes.toString('latin1') as FileName
/** UTF-8 text of a name, for logs and messages only. */
export const showName = (name: FileName): string => Buffer.from(name, 'latin1').toString('utf8')
export const toVolumeId = (text: string): VolumeId => text as VolumeId
export const toStageKey = (hex: string): StageKey => hex as StageKey
export const toDeviceNumber = (text: string): DeviceNumber => text as DeviceNumber

/**
 * Accepts an absolute path, collapses repeated and trailing slashes, refuses `.`/`..` components, NUL and over-long
 * paths.
 * @throws VolumeError INVALID naming `field`.
 */
export function parseAbsolutePath (text: string, field: string): AbsolutePath {
  const refuse = (why: string, remedy: string): never => {
    throw new VolumeError('INVALID', `${field}: ${JSON.stringify(text.slice(0, 300))} ${why}`, { field, remedy })
  }
  if (text === '') return refuse('is empty', 'give an absolute path')
  if (!text.startsWith('/')) return refuse('is not absolute', 'start it with "/"')
  if (text.includes('\0')) return refuse('contains a NUL byte', 'remove it')
  const parts = text.split('/').filter((part) => part !== '')
  if (parts.some((part) => part === '.' || part === '..')) return refuse('contains "." or ".."', 'give the plain path')
  if (parts.some((part) => Buffer.byteLength(part) > 255)) {
    return refuse('has a component of more than 255 bytes', 'shorten it')
  }
  if (Buffer.byteLength(text) > 4095) return refuse('is longer than 4095 bytes', 'shorten it')
  return `/${parts.join('/')}` as AbsolutePath
}
