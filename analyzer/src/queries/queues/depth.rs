//! How many messages a queue holds over time.
//!
//! A message counts as in the queue from the end of its send to the end of its receive: inside those calls nobody outside
//! the kernel knows. Calls come in the order of their ends, so a count is kept; what the kernel told replaces it.

/// Buckets of the series at most.
pub const BUCKETS: i64 = 60;

/// The time that is looked at, in equal buckets.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Its begin, nanoseconds since the epoch.
    pub from_ns: i64,
    /// Its end.
    pub to_ns: i64,
}

impl Span {
    /// The length of a bucket, nanoseconds.
    pub fn bucket_ns(self) -> i64 {
        let length = self.to_ns.saturating_sub(self.from_ns);
        (length / BUCKETS).saturating_add(i64::from(length % BUCKETS > 0)).max(1)
    }

    /// The bounds of a bucket.
    pub fn bucket(self, number: i64) -> (i64, i64) {
        let from_ns = self.from_ns.saturating_add(number.saturating_mul(self.bucket_ns()));
        (from_ns, from_ns.saturating_add(self.bucket_ns()).min(self.to_ns))
    }

    fn bucket_of(self, at_ns: i64) -> i64 {
        at_ns.saturating_sub(self.from_ns) / self.bucket_ns()
    }
}

/// What the queue held in one bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Its number.
    pub number: i64,
    /// The fewest messages.
    pub min: i64,
    /// The most.
    pub max: i64,
    /// Messages × nanoseconds.
    pub area: i128,
    /// How long the depth was known, nanoseconds.
    pub known_ns: i64,
}

/// The depth of one queue, followed forwards in time.
#[derive(Clone, Debug)]
pub struct Depth {
    span: Span,
    /// Up to when time is accounted for.
    at_ns: i64,
    /// Sent less received, and their bytes; below 0 for as long as a receiver returned before its sender did.
    raw: Option<(i64, i64)>,
    /// What the queue takes: a depth beyond it is one of a sender that returned before the receiver that made room.
    max_messages: i64,
    /// The most that it ever held.
    pub max: i64,
    /// How long the depth was known, nanoseconds.
    pub known_ns: i64,
    /// How long it was 0, nanoseconds.
    pub empty_ns: i64,
    /// Messages × nanoseconds.
    pub area: i128,
    /// How often calls ended in an order in which the messages cannot have moved.
    pub disorder: u64,
    /// Where something was known, by number.
    pub series: Vec<Bucket>,
    /// Every depth and since when, nanoseconds since the epoch.
    changes: Vec<(i64, i64)>,
    /// How many of them are kept at most.
    changes_max: usize,
}

impl Depth {
    /// Of a queue of which nothing is known yet; keeps so many changes at most.
    pub fn new(span: Span, changes_max: usize) -> Depth {
        Depth {
            span,
            at_ns: span.from_ns,
            raw: None,
            max_messages: i64::MAX,
            max: 0,
            known_ns: 0,
            empty_ns: 0,
            area: 0,
            disorder: 0,
            series: Vec::new(),
            changes: Vec::new(),
            changes_max,
        }
    }

    /// Up to when time is accounted for, nanoseconds since the epoch.
    pub fn at_ns(&self) -> i64 {
        self.at_ns
    }

    /// Messages in the queue; `None`: not known yet.
    pub fn messages(&self) -> Option<i64> {
        self.raw.map(|(messages, _)| messages.clamp(0, self.max_messages))
    }

    /// Bytes in the queue, as counted.
    pub fn bytes(&self) -> Option<i64> {
        self.raw.map(|(_, bytes)| bytes)
    }

    /// The queue takes so many.
    pub fn limit(&mut self, max_messages: i64) {
        self.max_messages = max_messages.max(0);
    }

    /// Somebody counted.
    pub fn set(&mut self, messages: i64, bytes: i64) {
        self.raw = Some((messages, bytes));
        self.max = self.max.max(messages);
        self.keep_change();
    }

    /// A message went in (1) or out (-1).
    pub fn change(&mut self, messages: i64, bytes: i64) {
        let Some((depth, held)) = self.raw else { return };
        let depth = depth.saturating_add(messages);
        self.raw = Some((depth, held.saturating_add(bytes)));
        if depth != depth.clamp(0, self.max_messages) {
            self.disorder += 1;
        }
        self.max = self.max.max(depth.clamp(0, self.max_messages));
        self.keep_change();
    }

    fn keep_change(&mut self) {
        let Some(messages) = self.messages().filter(|_| self.changes.len() < self.changes_max) else { return };
        if self.changes.last().is_none_or(|last| last.1 != messages) {
            self.changes.push((self.at_ns, messages));
        }
    }

    /// The changes that were kept, and whether there may have been more.
    pub fn into_changes(self) -> (Vec<(i64, i64)>, bool) {
        let is_cut_off = self.changes.len() >= self.changes_max;
        (self.changes, is_cut_off)
    }

    /// Accounts for the time up to `to_ns`; returns the begin of what was not accounted for yet, if that was anything.
    pub fn advance(&mut self, to_ns: i64) -> Option<i64> {
        let (from_ns, to_ns) = (self.at_ns, to_ns.min(self.span.to_ns));
        if to_ns <= from_ns {
            return None;
        }
        self.at_ns = to_ns;
        if let Some(depth) = self.messages() {
            let length = to_ns.saturating_sub(from_ns);
            self.known_ns = self.known_ns.saturating_add(length);
            self.empty_ns = self.empty_ns.saturating_add(if depth == 0 { length } else { 0 });
            self.area += i128::from(depth) * i128::from(length);
            self.add_to_series(from_ns, to_ns, depth);
        }
        Some(from_ns)
    }

    fn add_to_series(&mut self, from_ns: i64, to_ns: i64, depth: i64) {
        for number in self.span.bucket_of(from_ns)..=self.span.bucket_of(to_ns - 1) {
            let (begin, end) = self.span.bucket(number);
            let length = end.min(to_ns).saturating_sub(begin.max(from_ns));
            if self.series.last().is_none_or(|last| last.number != number) {
                self.series.push(Bucket { number, min: depth, max: depth, area: 0, known_ns: 0 });
            }
            if let Some(bucket) = self.series.last_mut() {
                bucket.min = bucket.min.min(depth);
                bucket.max = bucket.max.max(depth);
                bucket.area += i128::from(depth) * i128::from(length);
                bucket.known_ns = bucket.known_ns.saturating_add(length);
            }
        }
    }
}

/// A bar per eighth of the time, as high as the mean depth beside the most of all bars; blank where nothing is known.
pub fn sparkline(series: &[Bucket], most: i64) -> String {
    const WIDTH: i64 = 8;
    const BARS: [char; 7] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇'];
    let bar = |place: i64| {
        let part = series.iter().filter(|bucket| bucket.number * WIDTH / BUCKETS == place);
        let (area, known) = part.fold((0, 0), |(area, known), b| (area + b.area, known + i128::from(b.known_ns)));
        let most = i128::from(most.max(1));
        match known {
            0 => ' ',
            // Rounded up: what is there must be seen.
            _ => {
                let (filled, whole) = (area.saturating_mul(6), known.saturating_mul(most));
                let height = filled / whole + i128::from(filled % whole > 0);
                BARS[usize::try_from(height).unwrap_or(0).min(6)]
            }
        }
    };
    (0..WIDTH).map(bar).collect()
}
