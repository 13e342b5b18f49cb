/**
 * A map in order of use. Owns the order: a list through the entries themselves, so that using one again and taking the
 * oldest out cost the same however many there are. (A Map is in order of insertion too, but looks at every deleted
 * entry before its first living one.) Does not know what is kept or how much.
 */
interface Place<K, V> {
  readonly key: K
  value: V
  older: Place<K, V> | undefined
  newer: Place<K, V> | undefined
}

export class UseOrder<K, V> {
  readonly #places = new Map<K, Place<K, V>>()
  #oldest: Place<K, V> | undefined
  #newest: Place<K, V> | undefined

  get size (): number { return this.#places.size }
  get oldest (): K | undefined { return this.#oldest?.key }
  get (key: K): V | undefined { return this.#places.get(key)?.value }

  /** Oldest first. */
  * [Symbol.iterator] (): Generator<readonly [K, V]> {
    for (let place = this.#oldest; place !== undefined; place = place.newer) yield [place.key, place.value]
  }

  /** Makes it the one used last. Answers whether it is new. */
  put (key: K, value: V): boolean {
    const known = this.#newest?.key === key ? this.#newest : this.#places.get(key)
    if (known === undefined) {
      const place = { key, value, older: undefined, newer: undefined }
      this.#places.set(key, place)
      this.#append(place)
      return true
    }
    known.value = value
    if (known !== this.#newest) {
      this.#unlink(known)
      this.#append(known)
    }
    return false
  }

  delete (key: K): boolean {
    const place = this.#places.get(key)
    if (place === undefined) return false
    this.#places.delete(key)
    this.#unlink(place)
    return true
  }

  #append (place: Place<K, V>): void {
    place.older = this.#newest
    place.newer = undefined
    if (this.#newest === undefined) this.#oldest = place
    else this.#newest.newer = place
    this.#newest = place
  }

  #unlink ({ older, newer }: Place<K, V>): void {
    if (older === undefined) this.#oldest = newer
    else older.newer = newer
    if (newer === undefined) this.#newest = older
    else newer.older = older
  }
}
