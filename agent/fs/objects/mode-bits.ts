/** inode(7): what permission bits say. Owns the few questions that several parts ask of them; knows no users. */
import type { Attributes } from '../backend.ts'

const anyExecute = 0o111

/** Everybody may walk through this folder, whoever owns it. */
export function canAllSearch ({ mode }: Pick<Attributes, 'mode'>): boolean { return (mode & anyExecute) === anyExecute }
