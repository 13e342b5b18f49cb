/**
 * Results that are usually there at once. Owns the type and one helper.
 * A cached answer costs no promise and no microtask; a network answer is awaited.
 */
export type MaybePromise<T> = T | Promise<T>

export function isPromise<T> (value: MaybePromise<T>): value is Promise<T> {
  return value instanceof Promise
}
