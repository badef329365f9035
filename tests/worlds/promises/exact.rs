//! 4 *Exact*: the next hop gets the client's octets behind one line of ours. (That a record holds the client's octets is
//! what makes it readable at all, see `facts`.)

use super::facts::Facts;
use super::returns::is_known_loop;

pub(super) fn exact(facts: &Facts<'_>, complaints: &mut Vec<String>) {
    for arrival in facts.at_next_hop() {
        let Some((number, mail)) = facts.relayed(arrival) else {
            if is_known_loop(facts, arrival, complaints) {
                continue;
            }
            let shown = String::from_utf8_lossy(&arrival.octets[..arrival.octets.len().min(400)]).into_owned();
            complaints.push(format!("4 exact: what the next hop got at {} ms is nobody's: {shown:?}", arrival.when));
            continue;
        };
        if arrival.from != mail.sender.as_deref().unwrap_or("") {
            complaints.push(format!("4 exact: mail {number} came to the next hop from {:?}", arrival.from));
        }
    }
}
