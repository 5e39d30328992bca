/** Answers that a request may leave with the queue before no more of its groups are put beside others'. */
const MOST_UNTAKEN = 256;

/** One request's groups, answered in their order. */
export interface Ticket<Group, Answer> {
  readonly groups: readonly Group[];
  /** How many of the groups were in a batch. */
  done: number;
  /** To groups that were in a batch, until the request takes them. */
  readonly answers: Answer[];
}

/** A group in a batch, and whose it is. */
export interface Place<Group, Answer> {
  readonly ticket: Ticket<Group, Answer>;
  readonly group: Group;
}

/** What several requests wait for, so that one batch can serve them all. */
export class BatchQueue<Group, Answer> {
  /** In the order in which they came. */
  readonly #tickets = new Set<Ticket<Group, Answer>>();

  /** Requests that wait. */
  get size(): number {
    return this.#tickets.size;
  }

  /** Puts a request at the end of the queue. */
  join(groups: readonly Group[]): Ticket<Group, Answer> {
    const ticket = { groups, done: 0, answers: [] };
    this.#tickets.add(ticket);
    return ticket;
  }

  /** Nobody waits for the rest of a ticket's answers. */
  leave(ticket: Ticket<Group, Answer>): void {
    this.#tickets.delete(ticket);
  }

  /**
   * The next batch: a group of each request in turn until none has one that fits, so that many groups of one request hold
   * up no other's. A request that does not take its answers is passed over. The groups stay in the queue until they are answered: a batch may fail.
   *
   * @param first whose turn is the first
   * @param fits whether there is room for the group beside those that it was true of
   */
  fill(first: Ticket<Group, Answer>, fits: (group: Group) => boolean): Place<Group, Answer>[] {
    const batch: Place<Group, Answer>[] = [];
    let open = [...new Set([first, ...this.#tickets])]
      .filter((ticket) => ticket === first || ticket.answers.length < MOST_UNTAKEN)
      .map((ticket) => ({ ticket, next: ticket.done }));
    while (open.length > 0) {
      open = open.filter((turn) => {
        const group = turn.ticket.groups[turn.next];
        if (group === undefined || !fits(group)) return false;
        batch.push({ ticket: turn.ticket, group });
        turn.next++;
        return true;
      });
    }
    return batch;
  }

  /** Gives the groups of a batch their answers; one without stays in the queue, and those behind it of its ticket. */
  answer(batch: readonly Place<Group, Answer>[], answers: readonly (Answer | null)[]): void {
    const waiting = new Set<Ticket<Group, Answer>>();
    for (const [i, { ticket }] of batch.entries()) {
      const answer = answers[i] ?? null;
      if (answer === null || waiting.has(ticket)) waiting.add(ticket);
      else {
        ticket.answers.push(answer);
        ticket.done++;
      }
    }
  }
}
