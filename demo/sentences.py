"""Table `sentences`: short sentences written for this demonstration, half abstract and half concrete.

The average of the abstract embeddings and that of the concrete ones are two places; where between them does
another sentence lie? Neither half keeps to one subject or to one form of sentence, so that little but
abstraction parts them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = """
create table sentences (
    id integer primary key,
    sentence text not null,
    kind text not null
)
"""

ABSTRACT = """
Trust takes longer to rebuild than to lose.
Every freedom carries a responsibility.
Memory is kinder than history.
What we measure shapes what we value.
Justice delayed weakens the idea of justice.
Progress is rarely a straight path.
Hope is a discipline rather than a feeling.
To understand all is not to forgive all.
Power hides best in ordinary habits.
Beauty persuades before reason begins.
An honest question is worth more than a clever answer.
Certainty is the enemy of curiosity.
Time reveals which of our fears mattered.
Language both opens and limits thought.
Equality before the law is an ideal that is never finished.
Some truths are only visible from a distance.
Ambition without purpose becomes restlessness.
The meaning of success changes with age.
Loyalty can be a virtue or an excuse.
Doubt is the beginning of knowledge.
Complexity grows wherever nobody says no.
The past is an argument about the present.
Happiness pursued directly tends to escape.
Privacy is the condition of independent thought.
Every system encodes the assumptions of its makers.
Identity is partly chosen and partly given.
Courage and recklessness differ in their reasons.
Knowledge is not the same as wisdom.
The greater good has justified many harms.
Tradition is a vote cast by earlier generations.
Chance explains more than we like to admit.
Grief is the price of love.
A principle that costs nothing is only a preference.
Nothing is as persuasive as our own interest.
Order and creativity need each other.
Fairness is not always sameness.
Solitude differs from loneliness in being chosen.
Silence may express agreement or despair.
Theories survive until better ones replace them.
Dignity does not depend on usefulness.
Our values conflict more often than we notice.
Authority should be able to explain itself.
Simplicity is the result of long effort.
Cause and effect are easily reversed in hindsight.
Democracy depends on the consent of those who lose.
Imagination begins where evidence ends.
Perfection is a reason to never finish.
Gratitude changes the size of a problem.
Intentions are judged less than consequences.
Forgiveness frees the one who gives it.
Scarcity makes even small choices moral.
Reputation lags behind character.
Belonging matters more than agreement.
Optimism is compatible with a clear view of risk.
There is no neutrality without a point of view.
Patience is confidence in the future.
Influence spreads faster than understanding.
Evil often begins as indifference.
Change is the only constant worth planning for.
Could a mind ever fully comprehend itself?
"""

CONCRETE = """
The kettle whistled on the gas stove.
Two brown dogs chased a red ball across the lawn.
She tightened the last bolt with a rusty wrench.
Rain dripped from the gutter onto the bicycle seat.
He spread strawberry jam on a slice of toast.
The bus to the harbour leaves from platform four.
A grey cat slept on the warm bonnet of the car.
My grandmother's kitchen smelled of garlic and onions.
The plumber replaced a cracked pipe under the sink.
Snow covered the tractor at the edge of the field.
Eleven candles were stuck into the chocolate cake.
The train stopped in the tunnel for ten minutes.
Put the wet towels on the line behind the garage.
A wasp crawled along the rim of my lemonade glass.
The librarian stamped the book and handed it back.
Waves threw seaweed and pebbles over the sea wall.
The baby dropped her spoon on the tiled floor.
Blue paint had dried on the sleeves of his jumper.
Three fishing boats were tied to the wooden pier.
The dentist switched on a bright lamp above the chair.
A pile of oak logs stood beside the chimney.
The goalkeeper kicked the muddy ball over the fence.
Someone left an umbrella under seat fourteen.
The bread knife is in the drawer next to the fridge.
Ants carried crumbs along a crack in the pavement.
He carried two buckets of water up the hill.
The waitress poured coffee into a chipped white mug.
A heron stood motionless among the reeds.
The printer on the second floor is out of paper.
Her boots left prints in the wet cement.
The farmer loaded forty sacks of potatoes onto a truck.
A fly buzzed against the bathroom window.
The tailor pinned the hem of the black trousers.
The lift is stuck between the third and fourth floors.
Hot tar was poured over the gravel road.
He peeled an orange with his thumbs.
The guitar's thinnest string snapped at midnight.
Pigeons gathered around a dropped sandwich.
The nurse wrapped a bandage around his left ankle.
A yellow tent was pitched beside the stream.
The mechanic lay under the van with a torch.
Steam rose from the bowl of noodle soup.
The postman leaned his bicycle against our gate.
Fourteen cows were standing in the shade of one tree.
The carpenter sanded the edge of the pine table.
Children drew a hopscotch grid in white chalk.
The fire engine blocked the corner of Mill Street.
A button fell off his coat and rolled under the bed.
The ferry's ramp came down with a metallic clang.
She planted tulip bulbs along the brick wall.
The camel knelt so that we could climb on.
Salt and pepper stood beside a bottle of vinegar.
The clock above the station door has lost a hand.
A spider built its web across the letterbox.
The barber swept the cut hair into a dustpan.
Frost had sealed the windscreen of the delivery van.
The pilot walked around the plane and kicked a tyre.
Grandfather keeps his nails in old tobacco tins.
The surgeon asked for a smaller pair of scissors.
Has anyone seen the key to the garden shed?
"""

Row = tuple[int, str, str]


def rows() -> Iterator[Row]:
    """Yield the rows of the table: the abstract sentences first, numbered from 1."""
    kinds = [(line, "abstract") for line in ABSTRACT.strip().splitlines()]
    kinds += [(line, "concrete") for line in CONCRETE.strip().splitlines()]
    for number, (sentence, kind) in enumerate(kinds, start=1):
        yield number, sentence, kind
